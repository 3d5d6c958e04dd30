"""A file's layers of any kind applied to a base without adapters: its parameters are changed in place, and put back. As ComfyUI does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sdlora.adapters.file_tensors import LayerTensors, changed_parameters, file_delta
from sdlora.adapters.kinds import kind_of
from sdlora.adapters.layer_names import PEFT_DORA
from sdlora.core.device_errors import is_out_of_memory
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.families.spec import Part, short_path


@dataclass(frozen=True)
class LayerChange:
    """What one layer of a file changes: a parameter of the module at `path`, `weight` or `bias`."""

    file: str  # what it is called in sentences
    part: Part
    path: str
    parameter: str
    tensors: LayerTensors

    def delta(self, original: Tensor, strength: float) -> Tensor:
        """What is added to the parameter, in fp32.

        Raises:
            BadInput: the layer is damaged, has another size in this base, or is of a kind that is not computed.
        """
        try:
            return file_delta(self.tensors, original, self.parameter, strength)
        except NotImplementedError:
            title = getattr(kind_of(self.tensors), "title", "unknown")
            raise BadInput(
                Text(
                    f"{self.file} holds {title} layers as PEFT writes them, which are not computed here.",
                    f"{self.file} には PEFT 形式の {title} の層があります。この形式には対応していません。",
                )
            ) from None
        except KeyError as error:
            raise BadInput(
                Text(
                    f"{self.file} is damaged: its layer {self.part}.{self.path} lacks {error.args[0]}.",
                    f"{self.file} は壊れています。層 {self.part}.{self.path} に {error.args[0]} がありません。",
                )
            ) from None
        except (RuntimeError, ValueError, IndexError) as error:
            if is_out_of_memory(error):
                raise
            raise misfit(self.file, self.part, self.path, is_there=True) from error


def misfit(file: str, part: Part, path: str, is_there: bool) -> BadInput:
    """The base does not have this layer, or has it in another size."""
    return BadInput(
        Text(
            f"{file} does not fit this base: its layer {part}.{path} {'has another size here' if is_there else 'is not there'}.",
            f"{file} はこの基礎モデルに合いません。層 {part}.{path} {'の大きさが異なります' if is_there else 'がありません'}。",
        )
    )


def layer_changes(file: str, layers: Mapping[tuple[Part, str], LayerTensors]) -> list[LayerChange]:
    """All changes that a file makes."""
    return [
        LayerChange(file, part, path, parameter, tensors)
        for (part, path), tensors in layers.items()
        for parameter in changed_parameters(tensors)
    ]


class WeightPatch:
    """The changes of a file in a base. The base's own parameters are kept beside, so that taking it out is the base bit for bit.

    Raises:
        BadInput: the base does not have a layer.
    """

    def __init__(self, changes: list[LayerChange], models: Mapping[Part, nn.Module]):
        modules = {(p, short_path(path)): m for p, model in models.items() for path, m in model.named_modules()}
        self.parts = {change.part for change in changes}
        self.places: list[tuple[LayerChange, nn.Parameter, Tensor]] = []
        for change in changes:
            parameter = getattr(modules.get((change.part, short_path(change.path))), change.parameter, None)
            if not isinstance(parameter, nn.Parameter):
                raise misfit(change.file, change.part, change.path, is_there=False)
            self.places.append((change, parameter, parameter.data))
        self._shapes = {(c.part, c.path): p.shape for c, p, _ in self.places if c.parameter == "weight"}

    def shape_of(self, part: Part, path: str) -> torch.Size:
        """Of the weight that a layer changes, (out, in, …)."""
        return self._shapes[part, path]

    @torch.no_grad()
    def set_strength(self, strength: float) -> None:
        """0 is the base bit for bit, but for PEFT's DoRA: its lengths act at every strength.

        Raises:
            BadInput: see `LayerChange.delta`. After any error the base is as it was.
        """
        try:
            for change, parameter, original in self.places:
                parameter.data = original
                if strength or PEFT_DORA in change.tensors:
                    parameter.data = (original.float() + change.delta(original, strength)).to(original.dtype)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        for _, parameter, original in self.places:
            parameter.data = original
