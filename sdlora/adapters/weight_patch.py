"""A LoRA file of any kind inside a base without adapters: its weights changed, and put back. How ComfyUI and A1111 do it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sdlora.adapters.file_tensors import Group, delta_weight, groups
from sdlora.adapters.layer_names import bare
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.families.spec import Part


class WeightPatch:
    """What a file changes. The base's own weights are kept beside, so that strength 0 is the base bit for bit.

    Raises:
        BadInput: the file does not fit the models.
    """

    def __init__(self, file: Path, models: dict[Part, nn.Module]):
        self.layers: list[tuple[nn.Module, Tensor, Group]] = []
        modules = {(p, bare(path)): m for p, model in models.items() for path, m in model.named_modules()}
        self.parts: set[Part] = set()
        for (part, path), group in groups(load_file(file)).items():
            module = modules.get((part, bare(path)))
            weight = getattr(module, "weight", None)
            if not isinstance(module, nn.Module) or not isinstance(weight, Tensor):
                raise _unfit(file, f"{part}.{path}", "it has no such layer")
            try:
                delta_weight(group, weight.data)
            except (RuntimeError, KeyError) as error:
                raise _unfit(file, f"{part}.{path}", str(error).splitlines()[0]) from error
            self.layers.append((module, weight.data, group))
            self.parts.add(part)

    @torch.no_grad()
    def set_strength(self, strength: float) -> None:
        for module, weight, group in self.layers:
            module.weight.data = weight
            if strength:
                module.weight.data = (weight.float() + strength * delta_weight(group, weight)).to(weight.dtype)

    def remove(self) -> None:
        self.set_strength(0.0)


def _unfit(file: Path, layer: str, reason: str) -> BadInput:
    return BadInput(
        Text(
            f"{file.name} does not fit this base: {layer}: {reason}",
            f"{file.name} はこの基礎モデルに合いません({layer})。",
        )
    )
