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


def part_of_path(path: str) -> Part:
    """The part that a layer is in by its path in diffusers, where a file does not say."""
    return next((f.denoiser for f in FAMILIES.values() if path.startswith(f.lora.denoiser_paths)), "text_encoder")


def family_with_ldm_blocks() -> FamilySpec:
    """The family whose LoRAs alone name layers by LDM's blocks."""
    return next(family for family in FAMILIES.values() if family.lora.ldm_blocks)
