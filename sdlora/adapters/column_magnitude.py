"""DoRA's magnitudes of columns, in the place of PEFT's magnitudes of rows (arXiv 2402.09353, equation 5)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

_MIN_NORM = 1e-12  # a column of zeros stays one


def column_norms(weight: Tensor) -> Tensor:
    """L2 norm over all but the input side: (1, in) or (1, in, 1, 1) of a weight (out, in, …)."""
    return torch.linalg.vector_norm(weight, dim=[d for d in range(weight.dim()) if d != 1], keepdim=True)


class ColumnMagnitude(nn.Module):
    """m of W' = m (W + s B A) / |W + s B A|: a trained length for each column of W, which starts as W's own."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = nn.Parameter(column_norms(weight.detach().float()))
        self.strength = 1.0  # W + strength * (W' - W), as other programs have it

    def merged(self, base: Any, a: Any, b: Any, scaling: float) -> Tensor:
        """W + s B A in fp32."""
        weight = base.weight.float()
        change = b.weight.flatten(1).float() @ a.weight.flatten(1).float()
        return weight + scaling * change.reshape(weight.shape)

    def gain(self, base: Any, a: Any, b: Any, scaling: float) -> Tensor:
        """m / |W + s B A|; the norm counts as a constant (section 4.3)."""
        with torch.no_grad():
            norms = column_norms(self.merged(base, a, b, scaling)).clamp(min=_MIN_NORM)
        return self.weight / norms

    def delta(self, base: Any, a: Any, b: Any, scaling: float) -> Tensor:
        """W' - W in fp32."""
        return self.gain(base, a, b, scaling) * self.merged(base, a, b, scaling) - base.weight.float()

    def forward(self, x: Tensor, **peft: Any) -> Tensor:
        """What PEFT adds to the base layer's output. Scaled columns of W are scaled inputs, which need no weight of their own."""
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
