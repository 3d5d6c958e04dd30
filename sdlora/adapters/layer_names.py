"""What a tensor in a LoRA file is called in each format, and back: names only, no torch.

Inside, a layer is (part, path): the path as diffusers names it, with `text_model.` in front in text encoders. transformers 5.6
dropped that prefix from CLIPTextModel; every published file has it, and loaders that are older need it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sdlora.families import ldm_names
from sdlora.families.spec import Part

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
_FLAT: dict[str, Part] = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
_DOTTED: dict[str, Part] = {"unet.": "unet", "text_encoder.": "text_encoder", "text_encoder_2.": "text_encoder_2"}
_PEFT = "base_model.model."
_BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.")
# Names with an underscore of their own, which a flat name does not tell from a dot.
_WORDS = (
    "down_blocks up_blocks mid_block transformer_blocks input_blocks output_blocks middle_block in_layers out_layers emb_layers "
    "skip_connection time_embed label_emb to_q to_k to_v to_out proj_in proj_out time_emb_proj conv_shortcut conv_in conv_out "
    "time_embedding add_embedding linear_1 linear_2 text_model self_attn q_proj k_proj v_proj out_proj text_projection"
)
_PIECE = re.compile(f"(?:{'|'.join(sorted(_WORDS.split(), key=len, reverse=True))})(?=_|$)|[^_]+")
# Old diffusers files name attention layers by their processors, in text encoders too.
_PROCESSOR_UNET = {"to_out": "to_out.0"}
_PROCESSOR_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def parse(name: str) -> Key | None:
    """What this tensor is; None for a name that no format has."""
    ending = next((e for e in _ENDINGS if name.endswith(e)), None)
    if ending is None:
        return None
    stem, role = name.removesuffix(ending), _ENDINGS[ending]
    for prefix, part in _FLAT.items():
        if stem.startswith(prefix):
            path = ".".join(_PIECE.findall(stem.removeprefix(prefix)))
            return Key("kohya", part, canonical(part, ldm_names.to_diffusers(path)), role, ldm_names.is_ldm(path))
    if stem.startswith(_PEFT):
        return Key("peft", None, stem.removeprefix(_PEFT), role)
    for prefix, part in _DOTTED.items():
        if stem.startswith(prefix):
            return Key("diffusers", part, _dotted(part, stem.removeprefix(prefix), ending), role)
    if stem.startswith(_BLOCKS):
        return Key("diffusers", "unet", _dotted("unet", stem, ending), role)
    return None


def _dotted(part: Part, path: str, ending: str) -> str:
    if ending.startswith("_lora"):
        start, _, last = path.replace(".processor.", ".").rpartition(".")
        path = f"{start}.{(_PROCESSOR_UNET if part == 'unet' else _PROCESSOR_TEXT).get(last, last)}"
    return canonical(part, path)


def canonical(part: Part, path: str) -> str:
    """A module path as a layer is known by, from one inside any version of transformers."""
    return path if part == "unet" or path.startswith("text_model.") else f"text_model.{path}"


def bare(path: str) -> str:
    """Without `text_model.`: how patterns name a layer, since they match in both layouts."""
    return path.removeprefix("text_model.")


def kohya_name(part: Part, path: str, family: str) -> str:
    """The flat name of a layer: `lora_unet_…` (LDM's blocks for SDXL, as sd-scripts has them) or `lora_te…_text_model_…`."""
    if part == "unet":
        return "lora_unet_" + (ldm_names.to_ldm(path, sdxl=True) if family == "sdxl" else path).replace(".", "_")
    prefix = "lora_te2" if part == "text_encoder_2" else "lora_te1" if family == "sdxl" else "lora_te"
    return f"{prefix}_{canonical(part, path).replace('.', '_')}"
