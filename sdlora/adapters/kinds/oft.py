"""OFT and BOFT: a weight's outputs are turned by orthogonal blocks (arXiv 2306.07280, 2311.06243), as LyCORIS and sd-scripts write it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sdlora.adapters.kind_spec import FileKind

if TYPE_CHECKING:
    from torch import Tensor


def rotations(blocks: Tensor, constraint: float) -> Tensor:
    """Cayley transform of the skew-symmetric part Q of each block (…, b, b): (I + Q) (I - Q)^-1, the norm of Q limited to `constraint`."""
    import torch

    skew = blocks - blocks.transpose(-1, -2)
    if constraint > 0 and (norm := torch.linalg.vector_norm(skew) + 1e-8) > constraint:
        skew = skew * (constraint / norm)
    identity = torch.eye(blocks.shape[-1], device=blocks.device)
    return (identity + skew) @ torch.linalg.inv(identity - skew)


def delta(tensors: Mapping[str, Tensor], weight: Tensor, strength: float) -> Tensor:
    """R W - W for blocks (number, b, b), where R is block-diagonal; for BOFT, (factors, number, b, b), a product of butterflies.

    alpha is the constraint, as a share of the outputs. At another strength every block is between the identity and its rotation.
    """
    import torch

    blocks = tensors["oft_blocks"] if "oft_blocks" in tensors else tensors["oft_diag"]
    turns = rotations(blocks, tensors["alpha"].item() * weight.shape[0] if "alpha" in tensors else 0.0)
    turns = strength * turns + (1 - strength) * torch.eye(blocks.shape[-1], device=blocks.device)
    if blocks.dim() == 3:
        turned = torch.einsum("knm,kn...->km...", turns, weight.unflatten(0, blocks.shape[:2])).reshape(weight.shape)
    else:
        turned = weight
        for number, factor in enumerate(turns):
            turned = _butterfly(turned, factor, 2**number * (blocks.shape[-1] // 2))
    rescale = tensors["rescale"].reshape(-1, *(1,) * (weight.dim() - 1)) if "rescale" in tensors else 1.0
    return turned * (1 + strength * (rescale - 1)) - weight


def _butterfly(weight: Tensor, blocks: Tensor, stride: int) -> Tensor:
    """Turn outputs that lie `stride` apart by blocks (number, b, b)."""
    import torch

    shuffled = weight.unflatten(0, (-1, 2, stride)).transpose(1, 2).flatten(0, 2).unflatten(0, (-1, blocks.shape[-1]))
    turned = torch.einsum("bij,bj...->bi...", blocks, shuffled).flatten(0, 1)
    return turned.unflatten(0, (-1, stride, 2)).transpose(1, 2).flatten(0, 2)


FILE_KINDS = (
    FileKind("oft", "OFT", ("oft_blocks", "oft_diag", "rescale"), delta),
    # PEFT's, which OneTrainer writes too: packed triangles that turn a layer's inputs
    FileKind("oft_peft", "OFT", ("oft_R.weight", "oft_R.scaled_oft"), None),
)
