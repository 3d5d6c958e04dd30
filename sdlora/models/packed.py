"""Reorder the weights of frozen convolutions for the CPU's kernels once instead of at every call.

oneDNN reorders a convolution's weights each time it is called, and in the backward pass again. Deep in a UNet, where 29 million
weights meet 4 x 4 values, that takes ten times as long as the products themselves. Kept in order, SD 1.5's step on 256 pixels takes
four fifths of the time (bench/README.md), for the memory of one more copy of these weights.

PyTorch has the two operators for its own compiler and does not document them: where they are missing, do not take a number
format on this processor, or answer anything but what the plain convolution does, the plain one stays.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import psutil
import torch
from torch import Tensor, nn

MIN_WEIGHTS = 5_000_000  # weights of a convolution that is worth its memory
# Of the machine's memory that the second copies may take; not of what is free: a resumed run does as it did before.
MEMORY_SHARE = 1 / 8


class PackedConv(nn.Module):
    """A frozen 3 x 3 convolution of stride 1: (B, in, h, w) -> (B, out, h, w). Its input gets a gradient, its weights none."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        weight = conv.weight.detach()
        self._forward_weight = _reorder(weight)
        # By x, the gradient of a convolution is one with its weights turned around: (in, out, 3, 3), each kernel by 180 degrees.
        self._backward_weight = _reorder(weight.flip(2, 3).transpose(0, 1).contiguous())
        self._bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return _PackedConvolution.apply(x, self)

    def convolve(self, x: Tensor) -> Tensor:
        return _convolve(x, self._forward_weight, self._bias)

    def input_gradient(self, gradient: Tensor) -> Tensor:
        return _convolve(gradient, self._backward_weight, None)


def _reorder(weight: Tensor) -> Tensor:
    """The weights in an order that does not depend on the input's size, so that results do not depend on what was computed first."""
    return torch.ops.mkldnn._reorder_convolution_weight(weight, [1, 1], [1, 1], [1, 1], 1)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Padding, stride and dilation of 1, one group, nothing fused."""
    return torch.ops.mkldnn._convolution_pointwise(
        x.contiguous(), weight, bias, [1, 1], [1, 1], [1, 1], 1, "none", [], None
    ).contiguous()


class _PackedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, conv: PackedConv) -> Tensor:
        ctx.conv = conv
        return conv.convolve(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.conv.input_gradient(gradients[0]), None


def pack(model: nn.Module) -> int:
    """Replace the model's large frozen 3 x 3 convolutions, except those inside an adapter, in place; returns how many.

    None where the second copies would take more than `MEMORY_SHARE` of the machine's memory.
    Their weights are gone from the model then: count or save them before. 1 x 1 convolutions are left alone: their order does
    depend on the size of the picture, and the wrong one costs more than all of this gains (2.9 s a step instead of 1.4).
    """
    convolutions = {
        path: module
        for path, module in model.named_modules()
        if type(module) is nn.Conv2d and _is_packable(module) and not path.endswith(".base_layer")
    }
    copies = sum(conv.weight.nbytes for conv in convolutions.values())
    if copies > MEMORY_SHARE * psutil.virtual_memory().total:
        return 0
    paths = list(convolutions)
    for path in paths:
        model.set_submodule(path, PackedConv(convolutions.pop(path)))  # popped: the plain weights are freed one by one
    return len(paths)


def _is_packable(conv: nn.Conv2d) -> bool:
    same = conv.stride == (1, 1) and conv.dilation == (1, 1) and conv.groups == 1 and conv.padding_mode == "zeros"
    weight = conv.weight
    return (
        same
        and conv.kernel_size == (3, 3)
        and conv.padding == (1, 1)
        and weight.device.type == "cpu"
        and weight.numel() >= MIN_WEIGHTS
        and not weight.requires_grad
        and weight.dtype in (torch.float32, torch.bfloat16)
        and is_supported(weight.dtype)
    )


@cache
def is_supported(dtype: torch.dtype) -> bool:
    """Whether the operators are there, take this number format on this processor (bf16 needs AVX-512), and agree with the plain convolution."""
    with torch.random.fork_rng(devices=[]):
        conv = nn.Conv2d(32, 16, 3, padding=1).requires_grad_(False).to(dtype)
        x = torch.randn(2, 32, 5, 7, dtype=dtype, requires_grad=True)
    try:
        packed = PackedConv(conv)(x)
        (packed_gradient,) = torch.autograd.grad(packed.square().sum(), x)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    plain = conv(x)
    (plain_gradient,) = torch.autograd.grad(plain.square().sum(), x)
    close = 1e-4 if dtype == torch.float32 else 3e-2
    return torch.allclose(packed, plain, atol=close, rtol=close) and torch.allclose(
        packed_gradient, plain_gradient, atol=10 * close, rtol=close
    )
