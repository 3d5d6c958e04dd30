"""GLoRA without its bias: W + alpha / rank * (W A + B) with A and B of low rank (arXiv 2306.07967), as LyCORIS writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sdlora.adapters.kind_spec import FileKind, alpha_over_rank

if TYPE_CHECKING:
    from torch import Tensor


def delta(tensors: Mapping[str, Tensor], weight: Tensor, strength: float) -> Tensor:
    """A = a1 @ a2 with a1 (in, rank), a2 (rank, in); B = b1 @ b2 with b1 (out, rank), b2 (rank, in, …).

    Before version 2 LyCORIS had each pair the other way round: A = a2 @ a1, B = b2 @ b1. Of a square layer whose rank is its size
    the two cannot be told apart.
    """
    import torch

    a1, a2, b1, b2 = (tensors[f"{name}.weight"].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    if not a1.shape[0] == a2.shape[1] == weight.shape[1]:
        a1, a2, b1, b2 = a2, a1, b2, b1
    product = b1 @ b2
    if "bm.weight" in tensors:  # a convolution in three: 1x1, k x k, 1x1
        product = torch.einsum("or,rsij,sc->ocij", b1, tensors["bm.weight"], b2)
    moved = torch.einsum("oi...,ij->oj...", weight, a1 @ a2)
    return strength * alpha_over_rank(tensors, a2.shape[0]) * (moved + product.reshape(weight.shape))


FILE_KINDS = (
    FileKind(
        "glora",
        "GLoRA",
        ("a1.weight", "a2.weight", "b1.weight", "b2.weight", "bm.weight"),
        delta,
        rank_endings=(("a2.weight", 0),),
    ),
)
