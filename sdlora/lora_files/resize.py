"""Make a LoRA smaller: the nearest of a lower rank by singular values, layer by layer in fp64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.families.spec import Part
from sdlora.lora_files.layers import Layer, Lora, pad_to_rank
from sdlora.lora_files.merge import Progress

Spectrum = tuple[Tensor, Tensor, Tensor]  # u (out, k), singular values (k), v (k, in): u @ diag(s) @ v


@dataclass(frozen=True)
class ResizeResult:
    """`energy` is the share of the squared Frobenius norm that is kept: of the layer that lost most, and over all."""

    lora: Lora
    rank: int
    least_energy: float
    energy: float


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
        layers.append(truncate((layer.part, layer.path), found, chosen, layer.down.shape[1:], dtype))
        on_progress(done + 1, len(lora.layers))
    return ResizeResult(
        Lora(tuple(layers), lora.family, lora.metadata), chosen, least, captured / total if total else 1.0
    )


def _rank_for(lora: Lora, energy: float) -> int:
    """A pass of its own, so that no layer's directions wait in memory for the others."""
    return max(_rank_keeping(_spectrum(layer)[1], energy) for layer in lora.layers)


def _spectrum(layer: Layer) -> Spectrum:
    """Singular values of up @ down by way of two QR decompositions: the product itself is never made."""
    up, down = layer.up.double().flatten(1), layer.down.double().flatten(1)
    q_up, r_up = torch.linalg.qr(up)
    q_down, r_down = torch.linalg.qr(down.T)
    u, s, v = torch.linalg.svd(layer.scale * (r_up @ r_down.T), full_matrices=False)
    return q_up @ u, s, v @ q_down.T


def _rank_keeping(s: Tensor, energy: float) -> int:
    """The smallest rank that keeps this share."""
    total = (s**2).sum()
    if total == 0:
        return 1
    captured = (s**2).cumsum(0) / total
    return min(int((captured < energy - 1e-12).sum()) + 1, len(s))


def truncate(place: tuple[Part, str], found: Spectrum, rank: int, inside: Sequence[int], dtype: torch.dtype) -> Layer:
    """The first `rank` directions as a layer of scale 1, their sizes shared by both matrices so that fp16 holds them.

    `inside`: the weight's shape after its first side, (in,) or (in, k, k).
    """
    u, s, v = found
    root = s[:rank].sqrt()
    down, up = root[:, None] * v[:rank], u[:, :rank] * root
    layer = Layer(*place, down.reshape(-1, *inside), up.reshape(*up.shape, *(1,) * (len(inside) - 1)), 1.0)
    down, up = pad_to_rank(layer.down.float(), layer.up.float(), rank)
    return Layer(*place, down.to(dtype).contiguous(), up.to(dtype).contiguous(), float(rank))
