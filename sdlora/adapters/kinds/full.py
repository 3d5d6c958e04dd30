"""A whole change of a parameter, as LyCORIS' full matrices and norms and ComfyUI's extracted differences hold it: W + diff, b + diff_b."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sdlora.adapters.kind_spec import FileKind

if TYPE_CHECKING:
    from torch import Tensor


def delta(tensors: Mapping[str, Tensor], weight: Tensor, strength: float) -> Tensor:
    found = tensors["diff"] if "diff" in tensors else tensors["w_norm"]
    return strength * found.reshape(weight.shape)


# Of a bias: these endings come along with any kind, see `file_tensors.bias_delta`.
FILE_KINDS = (FileKind("full", "full difference", ("diff", "w_norm"), delta, input_ending="diff"),)
