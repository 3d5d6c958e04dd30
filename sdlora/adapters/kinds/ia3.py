"""(IA)³: a factor for each output of a layer, or for each input (arXiv 2205.05638), as LyCORIS writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sdlora.adapters.kind_spec import FileKind

if TYPE_CHECKING:
    from torch import Tensor


def delta(tensors: Mapping[str, Tensor], weight: Tensor, strength: float) -> Tensor:
    """W * w along the side that `on_input` names: the factor is 1 + w."""
    side = 1 if tensors["on_input"].item() else 0
    shape = [-1 if dimension == side else 1 for dimension in range(weight.dim())]
    return strength * weight * tensors["weight"].reshape(shape)


FILE_KINDS = (FileKind("ia3", "(IA)³", ("on_input",), delta),)
