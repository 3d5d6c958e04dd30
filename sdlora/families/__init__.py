"""Model families, one file each, behind the seam of `spec.FamilySpec`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from sdlora.families.sd1 import SD1
from sdlora.families.sd2 import SD2
from sdlora.families.sdxl import SDXL
from sdlora.families.spec import Configs, FamilySpec, LoraLayout, Part

FAMILIES: dict[str, FamilySpec] = {family.name: family for family in (SD1, SD2, SDXL)}


def get_family(name: str) -> FamilySpec:
    return FAMILIES[name]


def detect_family(configs: Configs) -> FamilySpec | None:
    """The family of a base by the configurations of its parts; None where no family here has such a base."""
    found = (family for family in FAMILIES.values() if family.denoiser in configs and family.detect(configs))
    return next(found, None)


def detect_lora(layers: Iterable[tuple[Part, str, Sequence[int]]], metadata: dict[str, str]) -> FamilySpec | None:
    """The family of a LoRA by its file's metadata, else by layers (part, path, shape of `down`) that only one family has."""
    names = (metadata.get("ss_base_model_version", ""), metadata.get("modelspec.architecture", ""))
    for family in FAMILIES.values():
        if any(re.match(family.metadata.pattern, name) for name in names):
            return family
    for part, path, shape in layers:
        for family in FAMILIES.values():
            if family.lora.detect(part, path, shape):
                return family
    return None


def lora_prefixes() -> dict[str, tuple[Part, LoraLayout]]:
    """Flat prefix of kohya's layer names -> the part, and the layout that reads the rest; of all families."""
    return {
        prefix: (part, family.lora) for family in FAMILIES.values() for part, prefix in family.lora.prefixes.items()
    }


def lora_words() -> frozenset[str]:
    """Words with an underscore of their own in the layer names of any family."""
    return frozenset(word for family in FAMILIES.values() for word in family.lora.words)


def parts() -> tuple[Part, ...]:
    """Every part that a LoRA of some family can act on, denoisers first."""
    everything = [*(f.denoiser for f in FAMILIES.values()), *(p for f in FAMILIES.values() for p in f.text_encoders)]
    return tuple(dict.fromkeys(everything))


def family_with_ldm_blocks() -> FamilySpec:
    """The family whose LoRAs alone name layers by LDM's blocks."""
    return next(family for family in FAMILIES.values() if family.lora.ldm_blocks)


def dotted_prefixes() -> dict[str, Part]:
    """What the dotted layer names of any family begin with -> the part."""
    found = {prefix: part for family in FAMILIES.values() for prefix, part in family.lora.dotted_prefixes.items()}
    return found | {f"{part}.": part for part in parts()}


def is_layer(part: Part, path: str) -> bool:
    """Whether a model of some family has such a layer."""
    patterns = [f.lora.layers.get(part, ".+") for f in FAMILIES.values() if part in f.parts]
    return any(re.fullmatch(pattern, path) for pattern in patterns)
