"""What a tensor in a LoRA file is called in each format, and back: names only, no torch.

Inside, a layer is (part, path): the path as diffusers names it, with `text_model.` in front in CLIP's text encoders. A tensor of it goes
by its ending, as kohya's files spell it: `lora_down.weight`, `alpha`, `dora_scale`, `hada_w1_a`, …
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from sdlora.adapters.kinds import FILE_KINDS
from sdlora.families import FAMILIES, dotted_prefixes, is_layer, ldm_names, lora_prefixes, lora_words
from sdlora.families.spec import Part, canonical_path, is_text_encoder

Format = Literal["kohya", "diffusers", "peft"]  # what can be written
DOWN, UP, MID, ALPHA = "lora_down.weight", "lora_up.weight", "lora_mid.weight", "alpha"
DORA, PEFT_DORA = (
    "dora_scale",
    "lora_magnitude_vector",
)  # lengths beside any kind; PEFT's are of rows, and its strength acts otherwise
SCALAR = "scalar"  # of LyCORIS: a trained factor of the whole change
BIAS_ENDINGS = ("diff_b", "b_norm")  # changes of a bias beside any kind


@dataclass(frozen=True)
class Key:
    """A tensor's name, taken apart."""

    format: str  # a `Format`, or "comfyui": dotted, under the names of the models in ComfyUI
    part: Part  # of a PEFT file a guess by the path: its folder knows better
    path: str
    ending: str
    is_ldm: bool = False  # a layer of the denoiser under its LDM name


# A name between `lora_A` and `weight` is the adapter's, which some savers forget to take out.
_SPELLINGS = (
    (re.compile(r"(?:\.lora_linear_layer|[._]lora)\.down\.weight$|\.lora_down\.weight$"), DOWN),
    (re.compile(r"(?:\.lora_linear_layer|[._]lora)\.up\.weight$|\.lora_up\.weight$"), UP),
    (re.compile(r"\.lora_A(?:\.\w+)?\.weight$"), DOWN),
    (re.compile(r"\.lora_B(?:\.\w+)?\.weight$"), UP),
    (re.compile(r"\.lora_magnitude_vector(?:\.\w+)*$"), PEFT_DORA),
)
_WRAPPERS = ("base_model.model.", "module.")  # of PEFT's model, of a model trained on several GPUs
_LYCORIS = "lycoris_"  # LyCORIS outside sd-scripts, SimpleTuner: flat names of a model of any kind
# Old diffusers files name attention layers by their processors, in text encoders too.
_PROCESSOR_DENOISER = {"to_out": "to_out.0"}
_PROCESSOR_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def parse(name: str) -> Key | None:
    """What this tensor is; None for a name with the ending of no LoRA tensor."""
    found = split_ending(name)
    return parse_layer(*found) if found else None


def split_ending(name: str) -> tuple[str, str] | None:
    """The layer's own name, and the ending as kohya's files spell it."""
    for spelling, ending in _SPELLINGS:
        if found := spelling.search(name):
            return name[: found.start()], ending
    for ending in _endings():
        if name.endswith(f".{ending}"):
            return name.removesuffix(f".{ending}"), ending
    return None


@cache
def _endings() -> tuple[str, ...]:
    """Longest first, since one may end with another."""
    found = {ALPHA, DORA, SCALAR, *BIAS_ENDINGS, *(ending for kind in FILE_KINDS.values() for ending in kind.endings)}
    return tuple(sorted(found, key=len, reverse=True))


def parse_layer(stem: str, ending: str = ALPHA) -> Key:
    """The layer of this name. It need not exist in any model: see `families.is_layer`."""
    tables = _tables(tuple(FAMILIES))
    for prefix, part in tables.flat.items():
        if stem.startswith(prefix):
            path = tables.split_words(stem.removeprefix(prefix))
            return Key("kohya", part, _inner_path(part, path), ending, ldm_names.is_ldm(path))
    if stem.startswith(_LYCORIS):
        path = tables.split_words(stem.removeprefix(_LYCORIS))
        part = _part_with(path)
        return Key("kohya", part, _inner_path(part, path), ending, ldm_names.is_ldm(path))
    path, is_peft = _unwrap(stem)
    for prefix, part in tables.dotted.items():
        if path.startswith(prefix):
            path, _ = _unwrap(path.removeprefix(prefix))
            is_ldm = ldm_names.is_ldm(path)
            format = "diffusers" if prefix == f"{part}." and not is_ldm else "comfyui"
            return Key(format, part, _inner_path(part, path), ending, is_ldm)
    part, is_ldm = _part_with(path), ldm_names.is_ldm(path)
    format = "peft" if is_peft else "comfyui" if is_ldm else "diffusers"
    return Key(format, part, _inner_path(part, path), ending, is_ldm)


@dataclass(frozen=True)
class _Tables:
    """What the families' layer names begin with, longest first since one may begin with another; and the words of flat names."""

    flat: dict[str, Part]
    dotted: dict[str, Part]
    words: re.Pattern[str]

    def split_words(self, flat: str) -> str:
        """A dotted path of a flat one. Words with an underscore of their own are the families' own: nothing else tells it from a dot."""
        return ".".join(self.words.findall(flat))


@cache
def _tables(families: tuple[str, ...]) -> _Tables:
    words = "|".join(sorted(lora_words(), key=len, reverse=True))
    flat = {prefix: part for prefix, (part, _) in lora_prefixes().items()}
    return _Tables(_longest_first(flat), _longest_first(dotted_prefixes()), re.compile(f"(?:{words})(?=_|$)|[^_]+"))


def _longest_first(prefixes: dict[str, Part]) -> dict[str, Part]:
    return dict(sorted(prefixes.items(), key=lambda item: -len(item[0])))


def _unwrap(path: str) -> tuple[str, bool]:
    """Without the names of wrappers around a model, and whether PEFT's was among them."""
    is_peft = False
    while wrapper := next((w for w in _WRAPPERS if path.startswith(w)), None):
        path, is_peft = path.removeprefix(wrapper), is_peft or wrapper == _WRAPPERS[0]
    return path, is_peft


def _part_with(path: str) -> Part:
    """The part that has this layer, of a file that names none: the denoiser, else the first text encoder; without any, a denoiser."""
    parts = tuple(dict.fromkeys(part for family in FAMILIES.values() for part in family.parts))
    return next((part for part in parts if is_layer(part, _inner_path(part, path))), parts[0])


def _inner_path(part: Part, path: str) -> str:
    """A dotted path in any spelling as the layer is known by: diffusers' blocks, attention layers by their modules' names."""
    start, dot, last = path.replace(".processor.", ".").rpartition(".")
    modules = _PROCESSOR_TEXT if is_text_encoder(part) else _PROCESSOR_DENOISER
    layout = next(family.lora for family in FAMILIES.values() if part in family.parts)
    return canonical_path(part, layout.from_kohya(part, f"{start}{dot}{modules.get(last, last)}"))


def kohya_name(part: Part, path: str, family: str) -> str:
    """The flat name of a layer, as sd-scripts has it: `lora_unet_…` (LDM's blocks for SDXL), `lora_te_text_model_…`.

    For an unknown family, as the first that has such a part.
    """
    own = [FAMILIES[family]] if family in FAMILIES else []
    layout = next(f.lora for f in [*own, *FAMILIES.values()] if part in f.lora.prefixes)
    return layout.prefixes[part] + layout.to_kohya(part, canonical_path(part, path)).replace(".", "_")
