"""Extract a LoRA: what a fine-tuned model changed in its base, layer by layer, as the nearest of a low rank (by SVD)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sdlora.adapters.spec import Targets, target_pattern
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.families.spec import LoraLayout
from sdlora.lora_files.layers import Lora, sort_layers
from sdlora.lora_files.merge import Progress
from sdlora.lora_files.resize import Spectrum, truncate

Weights = Mapping[str, Mapping[str, Tensor]]  # part -> weight name -> tensor
_EXACT = 512  # up to this shorter side a whole SVD is quick; above, a randomised one (arXiv 0909.4061) finds what is asked for
_ROUNDS = 6  # power iterations of it


@dataclass(frozen=True)
class Extraction:
    """`energy` is the share of the squared change that the LoRA holds; the rest is of higher rank or outside the target layers."""

    lora: Lora
    energy: float


def extract(
    layout: LoraLayout, base: Weights, tuned: Weights, rank: int, targets: Targets, on_progress: Progress
) -> Extraction:
    """tuned - base of a family, layer by layer, cut to `rank`; layers without a change are left out.

    Raises:
        BadInput: models of different shapes, or the same model twice.
    """
    names = [(part, name) for part in base for name in base[part]]
    _refuse_others(base, tuned)
    layers, whole, captured = [], 0.0, 0.0
    for done, (part, name) in enumerate(names):
        change = tuned[part][name].float() - base[part][name].float()
        size = (change.double() ** 2).sum().item()
        whole += size
        path = name.removesuffix(".weight")
        if size and path != name and re.fullmatch(target_pattern(layout, part, targets), path):
            found = _leading(change.flatten(1), rank)
            captured += (found[1][:rank].double() ** 2).sum().item()
            layers.append(truncate((part, path), found, rank, change.shape[1:], torch.float32))
        on_progress(done + 1, len(names))
    if not layers:
        raise BadInput(
            Text(
                "The two models are the same in every layer that a LoRA can hold: there is nothing to extract.",
                "2 つのモデルは LoRA で表せる層がすべて同じなので、抽出するものがありません。",
            )
        )
    return Extraction(Lora(sort_layers(layers), "unknown", {}), captured / whole)


def _refuse_others(base: Weights, tuned: Weights) -> None:
    for part, weights in base.items():
        for name, weight in weights.items():
            other = tuned.get(part, {}).get(name)
            if other is None or other.shape != weight.shape:
                found = (
                    "missing" if other is None else f"of shape {tuple(other.shape)} instead of {tuple(weight.shape)}"
                )
                raise BadInput(
                    Text(
                        f"The two models are of different kinds: {part}.{name} is {found} in the tuned one.",
                        f"2 つのモデルの構造が異なります({part}.{name})。同じ基礎モデルから作られたものを指定してください。",
                    )
                )


def _leading(matrix: Tensor, rank: int) -> Spectrum:
    """The largest singular values and their directions; the same numbers whatever the global random state."""
    if min(matrix.shape) <= max(_EXACT, 2 * rank):
        u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
        return u, s, v
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        u, s, v = torch.svd_lowrank(matrix, q=rank + max(16, rank // 2), niter=_ROUNDS)
    return u, s, v.T
