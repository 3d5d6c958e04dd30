"""Layers of more than two matrices, as LyCORIS and others name them in a file: which kind, of which layers, of what rank. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sdlora.adapters.layer_names import parse
from sdlora.families.spec import Part

# Kind -> endings that only it has. A `diff` is a whole change of a weight; `w_norm` and `b_norm` come along with any kind.
KINDS: dict[str, tuple[str, ...]] = {
    "loha": (".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".hada_t2"),
    "lokr": (".lokr_w1", ".lokr_w1_a", ".lokr_w1_b", ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2"),
    "oft": (".oft_blocks", ".oft_diag", ".oft_R.weight"),
    "glora": (".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight", ".bm.weight"),
    "ia3": (".weight.on_input", ".on_input"),
    "full": (".diff", ".diff_b"),
}
# The first of these that a file has tells its rank, by that side; LoKr's full factors have none.
_RANKS = (".hada_w1_b", ".lokr_w2_b", ".lokr_w1_b", ".a2.weight")
_PREFIX = "lycoris_"  # of files that LyCORIS writes outside sd-scripts, for the UNet

Place = tuple[Part, str, Sequence[int]]  # part, path, shape of what reads the layer's input


def kind_of(header: dict[str, Any]) -> str | None:
    """None for plain LoRAs, and for what is no LoRA at all."""
    found = [kind for kind, ends in KINDS.items() if any(name.endswith(ends) for name in header)]
    return found[0] if found else None


def needs_weight_patch(header: dict[str, Any]) -> bool:
    """Whether diffusers does not load such a file, but `applied` does: DoRA, LoHa and LoKr."""
    return kind_of(header) in ("loha", "lokr") or any(name.endswith(".dora_scale") for name in header)


def places(header: dict[str, Any], kind: str) -> list[Place]:
    """The layers of this kind. Where a name says no part, it is the UNet's."""
    found: dict[str, Sequence[int]] = {}
    for name, entry in header.items():
        if ending := next((e for e in KINDS[kind] if name.endswith(e)), None):
            stem = name.removesuffix(ending)
            found[stem] = entry["shape"] if ending == ".hada_w1_b" else found.get(stem, (0, 0))
    return [_place(stem, shape) for stem, shape in found.items()]


def _place(stem: str, shape: Sequence[int]) -> Place:
    flat = stem.replace(_PREFIX, "lora_unet_", 1) if stem.startswith(_PREFIX) else stem
    key = parse(f"{flat}.alpha")
    return (key.part or "unet", key.path, shape) if key else ("unet", stem, shape)


def is_ldm(header: dict[str, Any]) -> bool:
    """Whether layers have LDM's names, which only SDXL's files do."""
    return any("_input_blocks_" in name or "_output_blocks_" in name for name in header)


def ranks(header: dict[str, Any]) -> list[int]:
    for ending in _RANKS:
        if found := [entry["shape"][0] for name, entry in header.items() if name.endswith(ending) and entry["shape"]]:
            return found
    return []
