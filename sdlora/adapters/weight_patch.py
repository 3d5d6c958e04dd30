"""A LoRA file of any kind applied to a base without adapters: its weights are changed in place, and put back. As ComfyUI and A1111 do it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sdlora.adapters.file_tensors import LayerTensors, file_delta, group_by_layer
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.families.spec import Part, short_path


class WeightPatch:
    """The layers that a file changes. The base's own weights are kept beside, so that strength 0 is the base bit for bit.

    Raises:
        BadInput: the file does not fit the models.
    """

    def __init__(self, file: Path, models: dict[Part, nn.Module]):
        self.layers: list[tuple[nn.Module, Tensor, LayerTensors]] = []
        modules = {(p, short_path(path)): m for p, model in models.items() for path, m in model.named_modules()}
        self.parts: set[Part] = set()
        for (part, path), tensors in group_by_layer(load_file(file)).items():
            module = modules.get((part, short_path(path)))
            weight = getattr(module, "weight", None)
            if not isinstance(module, nn.Module) or not isinstance(weight, Tensor):
                raise _misfit(file, f"{part}.{path}", "it has no such layer")
            try:
                file_delta(tensors, weight.data)
            except (RuntimeError, KeyError) as error:
                raise _misfit(file, f"{part}.{path}", str(error).splitlines()[0]) from error
            self.layers.append((module, weight.data, tensors))
            self.parts.add(part)

    @torch.no_grad()
    def set_strength(self, strength: float) -> None:
        for module, weight, tensors in self.layers:
            module.weight.data = weight
            if strength:
                module.weight.data = (weight.float() + strength * file_delta(tensors, weight)).to(weight.dtype)

    def remove(self) -> None:
        self.set_strength(0.0)


def _misfit(file: Path, layer: str, reason: str) -> BadInput:
    return BadInput(
        Text(
            f"{file.name} does not fit this base: {layer}: {reason}",
            f"{file.name} はこの基礎モデルに合いません({layer})。",
        )
    )
