"""Merge several LoRAs into one, layer by layer in fp32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.families.spec import Part
from sdlora.lora_files.layers import Layer, Lora, pad_to_rank, sort_layers

Progress = Callable[[int, int], None]


def merge(loras: Sequence[tuple[Lora, float]], dtype: torch.dtype, on_progress: Progress = lambda d, t: None) -> Lora:
    """One LoRA whose effect is the sum of the others', each times its strength; exact, since the matrices are put side by side.

    Its rank is the sum of the ranks, the same in every layer (diffusers reads only one), and its scale is 1.

    Raises:
        BadInput: LoRAs of different families, or a layer that has another size in another file.
    """
    family = _one_family([lora.family for lora, _ in loras])
    ranks = [max(layer.rank for layer in lora.layers) for lora, _ in loras]
    by_place = [{(layer.part, layer.path): layer for layer in lora.layers} for lora, _ in loras]
    places = sorted({place for layers in by_place for place in layers})
    merged = []
    for done, place in enumerate(places):
        members = [
            (layers[place], strength * layers[place].scale) if place in layers else None
            for layers, (_, strength) in zip(by_place, loras, strict=True)
        ]
        merged.append(_stack(place, members, ranks, dtype))
        on_progress(done + 1, len(places))
    metadata = _common_metadata([lora.metadata for lora, _ in loras])
    return Lora(sort_layers(merged), family, metadata)


def _one_family(families: list[str]) -> str:
    named = {f for f in families if f != "unknown"}
    if len(named) > 1:
        raise BadInput(
            Text(
                f"These LoRAs are for different base models ({', '.join(sorted(named))}) and cannot be merged.",
                f"基礎モデルの種類が異なる LoRA({'、'.join(sorted(named))})はマージできません。",
            )
        )
    return named.pop() if named else "unknown"


def _stack(
    place: tuple[Part, str], members: list[tuple[Layer, float] | None], ranks: list[int], dtype: torch.dtype
) -> Layer:
    """One layer whose matrices are the members' side by side, each with its factor in `up` and zeros up to its rank."""
    present = [layer for layer, _ in filter(None, members)]
    if len({(layer.down.shape[1:], layer.up.shape[0]) for layer in present}) > 1:
        raise BadInput(
            Text(
                f"The layer {place[1]} has different sizes in these files: they are for different base models.",
                f"層 {place[1]} の大きさがファイルごとに異なります。基礎モデルが違う LoRA です。",
            )
        )
    downs, ups = [], []
    for member, rank in zip(members, ranks, strict=True):
        layer, factor = member or (present[0].empty(), 0.0)
        down, up = pad_to_rank(layer.down.float(), layer.up.float(), rank)
        downs.append(down)
        ups.append(up * factor)
    return Layer(*place, torch.cat(downs).to(dtype), torch.cat(ups, 1).to(dtype), float(sum(ranks)))


def _common_metadata(headers: list[dict[str, str]]) -> dict[str, str]:
    """Entries that all files share: a merged file has no training of its own."""
    return {k: v for k, v in headers[0].items() if all(header.get(k) == v for header in headers[1:])}
