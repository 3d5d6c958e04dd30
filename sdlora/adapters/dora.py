"""DoRA over inputs: the direction of each column of a weight is learned by a LoRA, its length by itself (arXiv 2402.09353, equation 5).

PEFT normalises rows. A1111, ComfyUI and Forge all read the lengths of columns, and no other kind alike: of rows, A1111 makes noise
and ComfyUI divides by another norm. So PEFT's layers keep their matrices and get this module for their magnitudes.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

_SMALLEST = 1e-12  # a column of zeros stays one


def column_norms(weight: Tensor) -> Tensor:
    """Length of all that one input touches: (1, in) or (1, in, 1, 1) of a weight (out, in, …)."""
    across = [d for d in range(weight.dim()) if d != 1]
    return torch.linalg.vector_norm(weight, dim=across, keepdim=True)


class Magnitude(nn.Module):
    """m of W' = m (W + s B A) / |W + s B A|, in the place of PEFT's. Its parameter lives; the base's weight is only looked at."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = nn.Parameter(column_norms(weight.detach().float()))
        self.strength = 1.0  # between the base's weight and the trained one, as other programs have it

    def merged(self, base: Any, a: Any, b: Any, scaling: float) -> Tensor:
        """W + s B A in fp32."""
        weight = base.weight.float()
        change = b.weight.flatten(1).float() @ a.weight.flatten(1).float()
        return weight + scaling * change.reshape(weight.shape)

    def gain(self, base: Any, a: Any, b: Any, scaling: float) -> Tensor:
        """m / |W + s B A|; the norm counts as a constant (section 4.3)."""
        with torch.no_grad():
            norms = column_norms(self.merged(base, a, b, scaling)).clamp(min=_SMALLEST)
        return self.weight / norms

    def forward(self, x: Tensor, **peft: Any) -> Tensor:
        """What is added to the base layer's output: since columns are scaled, inputs can be scaled instead."""
        if self.strength == 0:
            return x.new_zeros(())
        a, b, scaling, base = peft["lora_A"], peft["lora_B"], peft["scaling"], peft["base_layer"]
        gain = self.gain(base, a, b, scaling)
        gain = gain if gain.dim() == 4 else gain.flatten()
        weight, more = base.weight.to(x.dtype), x * (gain - 1).to(x.dtype)
        if isinstance(base, nn.Conv2d):
            changed = conv2d(more, weight, None, base.stride, base.padding, base.dilation, base.groups)
        else:
            changed = linear(more, weight)
        return self.strength * (changed + scaling * b(a(x * gain.to(x.dtype))))


def use_column_norms(layer: LoraLayer, name: str) -> None:
    """Exchange PEFT's magnitudes of this layer for those of columns."""
    layer.lora_magnitude_vector[name] = Magnitude(layer.get_base_layer().weight)


def delta_weight(layer: LoraLayer, name: str) -> Tensor:
    """The whole trained change of the layer's weight, at strength 1, in fp32."""
    magnitude, parts = layer.lora_magnitude_vector[name], (layer.lora_A[name], layer.lora_B[name], layer.scaling[name])
    base: Any = layer.get_base_layer()
    return magnitude.gain(base, *parts) * magnitude.merged(base, *parts) - base.weight.float()
