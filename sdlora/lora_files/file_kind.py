"""Which kind of layers a file holds besides plain LoRAs, told from its header: of which layers, of what rank. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sdlora.adapters.kind_spec import FileKind
from sdlora.adapters.kinds import FILE_KINDS
from sdlora.adapters.layer_names import parse
from sdlora.families import lora_prefixes, part_of_path, parts
from sdlora.families.spec import Part

_LAST = ("full", "lora")  # they come along with other kinds, which then name the file
_LYCORIS_PREFIX = "lycoris_"  # of files that LyCORIS writes outside sd-scripts, for the UNet

LayerShape = tuple[Part, str, Sequence[int]]  # part, path, shape of what reads the layer's input


def detect_kind(header: dict[str, Any]) -> FileKind | None:
    """None for plain LoRAs, and for what is no LoRA at all."""
    for kind in sorted(FILE_KINDS.values(), key=lambda kind: kind.name in _LAST):
        if kind.name != "lora" and any(name.endswith(_dotted(kind)) for name in header):
            return kind
    return None


def _dotted(kind: FileKind) -> tuple[str, ...]:
    return tuple(f".{ending}" for ending in kind.endings)


def needs_weight_patch(header: dict[str, Any]) -> bool:
    """Whether diffusers does not load such a file, but `WeightPatch` does: DoRA, LoHa and LoKr."""
    kind = detect_kind(header)
    return bool(kind and kind.delta) or any(name.endswith(".dora_scale") for name in header)


def layer_shapes(header: dict[str, Any], kind: FileKind) -> list[LayerShape]:
    """The layers of this kind. Where a name says no part, it is the UNet's."""
    found: dict[str, Sequence[int]] = {}
    for name, entry in header.items():
        if ending := next((e for e in kind.endings if name.endswith(f".{e}")), None):
            stem = name.removesuffix(f".{ending}")
            found[stem] = entry["shape"] if ending == kind.input_ending else found.get(stem, (0, 0))
    return [_layer_shape(stem, shape) for stem, shape in found.items()]


def _layer_shape(stem: str, shape: Sequence[int]) -> LayerShape:
    flat = stem.replace(_LYCORIS_PREFIX, next(iter(lora_prefixes())), 1) if stem.startswith(_LYCORIS_PREFIX) else stem
    key = parse(f"{flat}.alpha")
    return (key.part or part_of_path(key.path), key.path, shape) if key else (parts()[0], stem, shape)


def has_ldm_names(header: dict[str, Any]) -> bool:
    """Whether layers have LDM's names, which only SDXL's files do."""
    return any("_input_blocks_" in name or "_output_blocks_" in name for name in header)


def ranks(header: dict[str, Any], kind: FileKind) -> list[int]:
    """Of all layers that have one."""
    for ending, side in kind.rank_endings:
        found = [entry["shape"] for name, entry in header.items() if name.endswith(f".{ending}") and entry["shape"]]
        if found:
            return [shape[side] for shape in found]
    return []
