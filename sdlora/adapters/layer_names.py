"""What a tensor in a LoRA file is called in each format, and back: names only, no torch.

Inside, a layer is (part, path): the path as diffusers names it, with `text_model.` in front in text encoders. transformers 5.6
dropped that prefix from CLIPTextModel; every published file has it, and loaders that are older need it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from sdlora.families import FAMILIES, ldm_names, lora_prefixes, lora_words, part_of_path, parts
from sdlora.families.spec import LoraLayout, Part, canonical_path, is_text_encoder

Format = Literal["kohya", "diffusers", "peft"]
Role = Literal["down", "up", "alpha", "mid", "dora"]


@dataclass(frozen=True)
class Key:
    """A tensor's name, taken apart."""

    format: Format
    part: Part | None  # None in a PEFT file: its folder says which
    path: str
    role: Role
    ldm: bool = False  # an SDXL layer under its LDM name


# Longest endings first, since one may end with another. A `.default.` is an adapter's name that some savers forget to take out.
_ENDINGS: dict[str, Role] = {
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_magnitude_vector.weight": "dora",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora.down.weight": "down",
    ".lora_down.weight": "down",
    ".lora_mid.weight": "mid",
    ".lora.up.weight": "up",
    ".lora_up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".lora_magnitude_vector": "dora",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".dora_scale": "dora",
    ".alpha": "alpha",
}
_PEFT = "base_model.model."
# Old diffusers files name attention layers by their processors, in text encoders too.
_PROCESSOR_UNET = {"to_out": "to_out.0"}
_PROCESSOR_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def parse(name: str) -> Key | None:
    """What this tensor is; None for a name that no format has."""
    ending = next((e for e in _ENDINGS if name.endswith(e)), None)
    if ending is None:
        return None
    stem, role = name.removesuffix(ending), _ENDINGS[ending]
    for prefix, (part, layout) in _kohya_prefixes().items():
        if stem.startswith(prefix):
            path = ".".join(_words(tuple(FAMILIES)).findall(stem.removeprefix(prefix)))
            return Key("kohya", part, canonical_path(part, layout.from_kohya(part, path)), role, ldm_names.is_ldm(path))
    if stem.startswith(_PEFT):
        return Key("peft", None, stem.removeprefix(_PEFT), role)
    part, _, path = stem.partition(".")
    if part in parts():
        return Key("diffusers", part, _dotted(part, path, ending), role)
    if not is_text_encoder(part := part_of_path(stem)):  # the denoiser alone, without its name
        return Key("diffusers", part, _dotted(part, stem, ending), role)
    return None


def _kohya_prefixes() -> dict[str, tuple[Part, LoraLayout]]:
    """Longest first, since one may begin with another: `lora_te_` and `lora_te_…`."""
    return dict(sorted(lora_prefixes().items(), key=lambda item: -len(item[0])))


@cache
def _words(families: tuple[str, ...]) -> re.Pattern[str]:
    """The words of a flat name. Those with an underscore of their own are the families' own: a flat name does not tell it from a dot."""
    words = sorted(lora_words(), key=len, reverse=True)
    return re.compile(f"(?:{'|'.join(words)})(?=_|$)|[^_]+")


def _dotted(part: Part, path: str, ending: str) -> str:
    if ending.startswith("_lora"):
        start, _, last = path.replace(".processor.", ".").rpartition(".")
        path = f"{start}.{(_PROCESSOR_TEXT if is_text_encoder(part) else _PROCESSOR_UNET).get(last, last)}"
    return canonical_path(part, path)


def kohya_name(part: Part, path: str, family: str) -> str:
    """The flat name of a layer, as sd-scripts has it: `lora_unet_…` (LDM's blocks for SDXL), `lora_te_text_model_…`.

    For an unknown family, as the first that has such a part.
    """
    own = [FAMILIES[family]] if family in FAMILIES else []
    layout = next(f.lora for f in [*own, *FAMILIES.values()] if part in f.lora.prefixes)
    return layout.prefixes[part] + layout.to_kohya(part, canonical_path(part, path)).replace(".", "_")
