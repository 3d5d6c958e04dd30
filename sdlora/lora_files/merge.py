"""What people do with LoRAs afterwards: merge several into one, make one smaller. Layer by layer, in fp32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.families.spec import Part
from sdlora.lora_files.layers import Layer, Lora, sort_layers

Progress = Callable[[int, int], None]
Spectrum = tuple[Tensor, Tensor, Tensor]  # u (out, k), singular values (k), v (k, in): u @ diag(s) @ v


@dataclass(frozen=True)
class ResizeResult:
    """`energy` is the share of the squared Frobenius norm that is kept: of the layer that lost most, and over all."""

    lora: Lora
    rank: int
    least_energy: float
    energy: float


def merge(loras: Sequence[tuple[Lora, float]], dtype: torch.dtype, on_progress: Progress = lambda d, t: None) -> Lora:
    """One LoRA whose effect is the sum of the others', each at its strength; exact: the matrices are put side by side.

    Its rank is the sum of the ranks, the same in every layer (diffusers reads only one), and its scale is 1.

    Raises:
        BadInput: LoRAs of different families, or a layer that has another size in another file.
    """
    family = _one_family([lora.family for lora, _ in loras])
    width = [max(layer.rank for layer in lora.layers) for lora, _ in loras]
    at = [{(layer.part, layer.path): layer for layer in lora.layers} for lora, _ in loras]
    places = sorted({place for layers in at for place in layers})
    merged = []
    for done, place in enumerate(places):
        pieces = [
            (_padded(layers[place], rank), strength * layers[place].scale) if place in layers else None
            for layers, rank, (_, strength) in zip(at, width, loras, strict=True)
        ]
        merged.append(_side_by_side(place, pieces, width, dtype))
        on_progress(done + 1, len(places))
    metadata = _common([lora.metadata for lora, _ in loras])
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


def _padded(layer: Layer, rank: int) -> tuple[Tensor, Tensor]:
    """Both matrices in fp32 with zeros up to `rank`: the same weights."""
    down, up = layer.down.float(), layer.up.float()
    missing = rank - layer.rank
    return (
        torch.cat([down, down.new_zeros(missing, *down.shape[1:])]),
        torch.cat([up, up.new_zeros(up.shape[0], missing, *up.shape[2:])], 1),
    )


def _side_by_side(
    place: tuple[Part, str],
    pieces: list[tuple[tuple[Tensor, Tensor], float] | None],
    width: list[int],
    dtype: torch.dtype,
) -> Layer:
    shapes = {(down.shape[1:], up.shape[0]) for (down, up), _ in filter(None, pieces)}
    if len(shapes) > 1:
        raise BadInput(
            Text(
                f"The layer {place[1]} has different sizes in these files: they are for different base models.",
                f"層 {place[1]} の大きさがファイルごとに異なります。基礎モデルが違う LoRA です。",
            )
        )
    down, up = next(pair for pair, _ in filter(None, pieces))
    downs = [p[0][0] if p else down.new_zeros(r, *down.shape[1:]) for p, r in zip(pieces, width, strict=True)]
    ups = [
        p[0][1] * p[1] if p else up.new_zeros(up.shape[0], r, *up.shape[2:]) for p, r in zip(pieces, width, strict=True)
    ]
    return Layer(*place, torch.cat(downs).to(dtype), torch.cat(ups, 1).to(dtype), float(sum(width)))


def _common(metadatas: list[dict[str, str]]) -> dict[str, str]:
    """What all files say alike: a merged file has no training of its own."""
    first = metadatas[0]
    return {k: v for k, v in first.items() if all(m.get(k) == v for m in metadatas[1:])}


def resize(
    lora: Lora,
    rank: int | None,
    energy: float | None,
    dtype: torch.dtype,
    on_progress: Progress = lambda d, t: None,
) -> ResizeResult:
    """The nearest LoRA of this rank (Eckart-Young), or of the smallest rank that keeps this share of energy in every layer.

    One rank for all layers, since diffusers reads only one. Raises BadInput for a rank that is not smaller.
    """
    largest = max(layer.rank for layer in lora.layers)
    if rank is not None and rank > largest:
        raise BadInput(
            Text(
                f"The file's rank is {largest}; resizing to {rank} would only add zeros. Give a smaller rank.",
                f"元のランクは {largest} です。{rank} にしてもゼロが増えるだけなので、小さい値を指定してください。",
            )
        )
    chosen = rank or _rank_for(lora, energy or 1.0)
    layers, total, captured, least = [], 0.0, 0.0, 1.0
    for done, layer in enumerate(lora.layers):
        found = _spectrum(layer)
        whole, part = (found[1] ** 2).sum().item(), (found[1][:chosen] ** 2).sum().item()
        total, captured, least = total + whole, captured + part, min(least, part / whole if whole else 1.0)
        layers.append(cut((layer.part, layer.path), found, chosen, layer.down.shape[1:], dtype))
        on_progress(done + 1, len(lora.layers))
    return ResizeResult(
        Lora(tuple(layers), lora.family, lora.metadata), chosen, least, captured / total if total else 1.0
    )


def _rank_for(lora: Lora, energy: float) -> int:
    """A pass of its own, so that no layer's directions wait in memory for the others."""
    return max(_needed(_spectrum(layer)[1], energy) for layer in lora.layers)


def _spectrum(layer: Layer) -> Spectrum:
    """Singular values of up @ down by way of two QR decompositions: the product itself is never made."""
    up, down = layer.up.double().flatten(1), layer.down.double().flatten(1)
    q_up, r_up = torch.linalg.qr(up)
    q_down, r_down = torch.linalg.qr(down.T)
    u, s, v = torch.linalg.svd(layer.scale * (r_up @ r_down.T), full_matrices=False)
    return q_up @ u, s, v @ q_down.T


def _needed(s: Tensor, energy: float) -> int:
    """The smallest rank that keeps this share."""
    total = (s**2).sum()
    if total == 0:
        return 1
    captured = (s**2).cumsum(0) / total
    return min(int((captured < energy - 1e-12).sum()) + 1, len(s))


def cut(place: tuple[Part, str], found: Spectrum, rank: int, inside: Sequence[int], dtype: torch.dtype) -> Layer:
    """The first `rank` directions as a layer of scale 1, their sizes shared by both matrices so that fp16 holds them.

    `inside`: the weight's shape after its first side, (in,) or (in, k, k).
    """
    u, s, v = found
    root = s[:rank].sqrt()
    down, up = root[:, None] * v[:rank], u[:, :rank] * root
    layer = Layer(*place, down.reshape(-1, *inside), up.reshape(*up.shape, *(1,) * (len(inside) - 1)), 1.0)
    down, up = _padded(layer, rank)
    return Layer(*place, down.to(dtype).contiguous(), up.to(dtype).contiguous(), float(rank))
