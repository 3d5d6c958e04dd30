"""Forward and backward pass of a plain LoRA's layers, in the frozen layer's own number format and one autograd node.

PEFT computes its two products in fp32 beside a bf16 base: it casts each input, keeps the copy for the backward pass, scales, adds and
casts back. Here A and B stay fp32 where they are trained, and are cast once after each update. PEFT still builds the layers and holds
their parameters; its own forward pass is what tests compare with.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from peft.tuners import lora
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from sdlora.adapters.kind_spec import ADAPTER


class _AdaptedLinear(torch.autograd.Function):
    """y = x Wᵀ + b + s · x Aᵀ Bᵀ of a frozen W (out, in). x is (…, in); A (rank, in) and B (out, rank) are in W's number format.

    Gradients go to x and to the fp32 parameters that A and B are copies of.
    """

    @staticmethod
    def forward(  # noqa: PLR0913  the operands of one product
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        parameter_a: Tensor,
        parameter_b: Tensor,
        a: Tensor,
        b: Tensor,
        scale: float,
    ) -> Tensor:
        rows = x.flatten(0, -2)
        down = rows.mm(a.t())
        y = linear(
            x, weight, bias
        )  # in its own shape, as the frozen layer: an untrained B then adds nothing, bit for bit
        y.view(-1, len(weight)).addmm_(down, b.t(), alpha=scale)
        ctx.save_for_backward(rows, weight, a, b, down)
        ctx.shape, ctx.scale, ctx.dtype = x.shape, scale, parameter_a.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, a, b, down = ctx.saved_tensors
        y = gradients[0].flatten(0, -2)
        grad_down = y.mm(b).mul_(ctx.scale)
        grad_b = y.t().mm(down).to(ctx.dtype).mul_(ctx.scale)
        grad_a = grad_down.t().mm(rows).to(ctx.dtype)
        grad_x = y.mm(weight).addmm_(grad_down, a).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return grad_x, None, None, grad_a, grad_b, None, None, None


class LoraLinear(lora.Linear):
    """PEFT's layer with another forward pass. `working` are A and B in the base's number format, and the versions that they are of."""

    working: tuple[tuple[int, int], Tensor, Tensor] | None = None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """W x + b + strength · alpha / rank · B A x; at strength 0 the frozen layer's own output, bit for bit."""
        scale, base = self.scaling[ADAPTER], self.base_layer
        if scale == 0:
            return linear(x, base.weight, base.bias)
        dropout = self.lora_dropout[ADAPTER]
        if self.training and not isinstance(dropout, nn.Identity):
            return super().forward(x, *args, **kwargs)  # the mask is the input's, in fp32
        a, b = self.lora_A[ADAPTER].weight, self.lora_B[ADAPTER].weight
        if a.dtype == base.weight.dtype:
            return _AdaptedLinear.apply(x, base.weight, base.bias, a, b, a.detach(), b.detach(), scale)
        version = a._version, b._version
        if self.working is None or self.working[0] != version:
            self.working = version, a.detach().to(base.weight.dtype), b.detach().to(base.weight.dtype)
        return _AdaptedLinear.apply(x, base.weight, base.bias, a, b, *self.working[1:], scale)


@torch.no_grad()
def refresh_working_copies(layers: Iterable[nn.Module]) -> None:
    """Cast A and B anew, all in one call: after a fused optimizer's step, which changes them without another version."""
    stale = [layer for layer in layers if isinstance(layer, LoraLinear) and layer.working is not None]
    copies = [copy for layer in stale for copy in (layer.working or ())[1:]]
    if copies:
        torch._foreach_copy_(copies, [m[ADAPTER].weight for layer in stale for m in (layer.lora_A, layer.lora_B)])


class LoraConv2d(lora.Conv2d):
    """The same for convolutions, in which the passes themselves take longer than what stands between them."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        scale, base = self.scaling[ADAPTER], self.base_layer
        y: Tensor = base(x)
        if scale == 0:
            return y
        dropout = self.lora_dropout[ADAPTER]
        if self.training and not isinstance(dropout, nn.Identity):
            return super().forward(x, *args, **kwargs)
        a, b = (matrix[ADAPTER].weight.to(x.dtype) for matrix in (self.lora_A, self.lora_B))
        down = conv2d(x, a, None, base.stride, base.padding, base.dilation, base.groups)
        return torch.add(y, conv2d(down, b), alpha=scale)


def use_own_forward(layer: nn.Module) -> None:
    """Give a layer that PEFT has just made the forward pass of this file; it keeps all that is in it."""
    if type(layer) is lora.Linear:
        layer.__class__ = LoraLinear
    elif type(layer) is lora.Conv2d and getattr(layer.base_layer, "padding_mode", "") == "zeros":
        layer.__class__ = LoraConv2d
