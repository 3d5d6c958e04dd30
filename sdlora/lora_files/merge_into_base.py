"""Merge LoRA files of any kind into a base: which of its parameters they change, and what those become."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sdlora.adapters.weight_patch import LayerChange, layer_changes, misfit
from sdlora.lora_files.read import LoraFile

Weights = Mapping[str, Mapping[str, Tensor]]  # part -> name -> tensor
Changes = dict[
    tuple[str, str], list[tuple[LayerChange, float]]
]  # (part, name of a tensor) -> changes with their strengths


def changes_by_tensor(loras: Sequence[tuple[LoraFile, float]], base: Weights) -> Changes:
    """Which tensors of `base` the files change.

    Raises:
        BadInput: a layer that this base does not have, or has in another size.
    """
    found: Changes = defaultdict(list)
    for lora, strength in loras:
        for change in layer_changes(lora.name, lora.layers):
            name = f"{change.path}.{change.parameter}"
            tensor = base.get(change.part, {}).get(name)
            if tensor is None:
                raise misfit(change.file, change.part, change.path, is_there=False)
            found[change.part, name].append((change, strength))
        _refuse_misfits(lora, base)
    return dict(found)


def _refuse_misfits(lora: LoraFile, base: Weights) -> None:
    """Sizes of plain layers are looked at before anything is written; those of other kinds only computing tells."""
    for layer in lora.plain_layers() if lora.is_plain else ():
        if not layer.fits(base[layer.part][f"{layer.path}.weight"].shape):
            raise misfit(lora.name, layer.part, layer.path, is_there=True)


@torch.no_grad()
def apply_changes(tensor: Tensor, changes: Sequence[tuple[LayerChange, float]]) -> Tensor:
    """The tensor with the changes made one after another in fp32, in its own dtype."""
    total = tensor.float()
    for change, strength in changes:
        total = total + change.delta(total, strength)
    return total.to(tensor.dtype)
