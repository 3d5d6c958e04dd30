"""Training passes of attention with a plain LoRA in it: query, key and value, or key and value, as one product and one autograd node.

A step of SDXL passes 560 adapted layers. Where they are small, or the card is fast, Python and the launches of kernels take longer than
the arithmetic; so does reading one input three times. What is frozen is stored as one matrix, of which the layers' weights become views.
Only passes with gradients come here: without them layers compute as they do in every other program, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from sdlora.adapters.kind_spec import ADAPTER
from sdlora.adapters.lora_layers import LoraLinear


class Projections:
    """Adapted layers of one input: y_i = W_i x + b_i + s B_i A_i x, computed as y = W x + b + B (s A) x.

    W (outs, in) and A (ranks, in) are the layers' one below the other, B (outs, ranks) has theirs as blocks. s A and B are copies in
    the frozen layers' number format, renewed by `refresh`.
    """

    def __init__(self, layers: Sequence[Any]):  # of `LoraLinear`
        frozen: list[Any] = [layer.base_layer for layer in layers]
        self.layers, self.scale = layers, layers[0].scaling[ADAPTER]
        self.weight = torch.cat([one.weight.detach() for one in frozen])
        self.bias = None if frozen[0].bias is None else torch.cat([one.bias.detach() for one in frozen])
        self.parameters = [m[ADAPTER].weight for layer in layers for m in (layer.lora_A, layer.lora_B)]
        self.ranks, self.outs = [len(p) for p in self.parameters[::2]], [len(p) for p in self.parameters[1::2]]
        self.a = self.weight.new_zeros(sum(self.ranks), self.weight.shape[1])
        self.b = self.weight.new_zeros(sum(self.outs), sum(self.ranks))
        self.transposed = self.weight.t(), self.a.t(), self.b.t()
        rows, columns = self.b.split(self.outs), self.a.split(self.ranks)
        blocks = [row.split(self.ranks, 1)[k] for k, row in enumerate(rows)]
        self.copies = [copy for pair in zip(columns, blocks, strict=True) for copy in pair]
        for one, weight in zip(frozen, self.weight.split(self.outs), strict=True):
            one.weight.data = weight

    def __call__(self, x: Tensor) -> Tensor:
        """(batch, tokens, in) -> (batch, tokens, outs)."""
        y: Tensor = _Project.apply(x, self, *self.parameters)
        return y

    def gradients(
        self, y: Tensor, grad_down: Tensor, rows: Tensor, down: Tensor, dtype: torch.dtype
    ) -> Iterable[Tensor]:
        """Of each layer's A, then B. y (n, outs) and `grad_down` (n, ranks) are gradients, rows (n, in) and `down` (n, ranks) inputs."""
        grad_a, grad_b = grad_down.t().mm(rows).to(dtype).mul_(self.scale), y.t().mm(down).to(dtype)
        if len(self.layers) == 1:
            return grad_a, grad_b
        blocks = (row.split(self.ranks, 1)[k] for k, row in enumerate(grad_b.split(self.outs)))
        return (gradient for pair in zip(grad_a.split(self.ranks), blocks, strict=True) for gradient in pair)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Projections, *parameters: Tensor) -> Tensor:
        weight, a, b = group.transposed
        rows = x.view(-1, x.shape[-1]) if x.is_contiguous() else x.flatten(0, -2)
        y = rows.mm(weight) if group.bias is None else torch.addmm(group.bias, rows, weight)
        down = rows.mm(a)
        y.addmm_(down, b)
        ctx.save_for_backward(rows, down)
        ctx.group, ctx.shape, ctx.dtype = group, x.shape, parameters[0].dtype
        return y.view(x.shape[0], x.shape[1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        group, (rows, down) = ctx.group, ctx.saved_tensors
        y = gradients[0].reshape(-1, gradients[0].shape[-1])
        grad_down = y.mm(group.b)
        grad_x = y.mm(group.weight).addmm_(grad_down, group.a).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return grad_x, None, *group.gradients(y, grad_down, rows, down, ctx.dtype)


class FusedBlock(BasicTransformerBlock):
    """diffusers' block, with another way for passes with gradients: x + attn1(norm1 x), + attn2(norm2 x, text), + ff(norm3 x)."""

    groups: tuple[Projections, ...]  # query, key and value of attn1; its output; query, key and value, output of attn2

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        text, masks = kwargs.get("encoder_hidden_states"), ("attention_mask", "encoder_attention_mask")
        qkv, out_1, query, key_value, out_2 = self.groups
        ours = torch.is_grad_enabled() and not args and qkv.layers[0].scaling[ADAPTER] == qkv.scale
        if text is None or not ours or any(kwargs.get(mask) is not None for mask in masks):
            output: Tensor = super().forward(hidden_states, *args, **kwargs)
            return output
        x, heads = hidden_states, self.attn1.heads
        x = x + out_1(_attend(*_heads(qkv(self.norm1(x)), 3, heads)))
        (q,) = _heads(query(self.norm2(x)), 1, heads)
        x = x + out_2(_attend(q, *_heads(key_value(text), 2, heads)))
        return x + self._feed_forward(self.norm3(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        """GEGLU (arXiv 2002.05202) and the layer after it, adapted or not; without dropout."""
        first, _, second = self.ff.net
        value, gate = first.proj(x).chunk(2, -1)
        y: Tensor = second(value * gelu(gate))
        return y


def _heads(projected: Tensor, count: int, heads: int) -> tuple[Tensor, ...]:
    """(batch, tokens, count · width) -> `count` times (batch, heads, tokens, width / heads)."""
    batch, tokens, width = projected.shape
    split = projected.view(batch, tokens, count, heads, width // (count * heads)).permute(2, 0, 3, 1, 4)
    return split.unbind(0)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(batch, tokens, width)."""
    return scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def fuse(model: nn.Module) -> list[Projections]:
    """Let all transformer blocks of the model whose attention is adapted by plain LoRAs train this way; what is to be refreshed."""
    groups: list[Projections] = []
    block: Any
    for block in model.modules():
        if type(block) is BasicTransformerBlock and _fits(block):
            first, second = block.attn1, block.attn2
            members = (
                (first.to_q, first.to_k, first.to_v),
                (first.to_out[0],),
                (second.to_q,),
                (second.to_k, second.to_v),
                (second.to_out[0],),
            )
            block.__class__ = FusedBlock
            block.groups = tuple(Projections(layers) for layers in members)
            groups += block.groups
    refresh(groups)
    return groups


@torch.no_grad()
def refresh(groups: Sequence[Projections]) -> None:
    """Copy the parameters anew."""
    if groups:
        torch._foreach_copy_([c for g in groups for c in g.copies], [p for g in groups for p in g.parameters])
        torch._foreach_mul_([g.a for g in groups], [g.scale for g in groups])


def unfuse(model: nn.Module) -> None:
    """Give blocks their own passes back."""
    for block in model.modules():
        if type(block) is FusedBlock:
            del block.groups
            block.__class__ = BasicTransformerBlock


def _fits(block: Any) -> bool:
    plain = block.norm_type == "layer_norm" and block.pos_embed is None and not block.only_cross_attention
    if not plain or block.attn2 is None or hasattr(block, "fuser") or block._chunk_size is not None:
        return False
    if type(block.ff.net[0]) is not GEGLU or len(block.ff.net) != 3 or block.ff.net[1].p != 0:
        return False
    kinds = block.attn1.is_cross_attention, block.attn2.is_cross_attention
    return kinds == (False, True) and _is_plain(block.attn1) and _is_plain(block.attn2)


def _is_plain(attention: Attention) -> bool:
    """Whether it is softmax(q kᵀ / sqrt(width)) v between four adapted projections, and nothing else."""
    layers = (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0])
    if not all(type(layer) is LoraLinear and isinstance(layer.lora_dropout[ADAPTER], nn.Identity) for layer in layers):
        return False
    extra = ("group_norm", "spatial_norm", "norm_q", "norm_k", "norm_cross", "added_kv_proj_dim")
    width = layers[0].base_layer.out_features // attention.heads
    return (
        all(getattr(attention, name, None) is None for name in extra)
        and not attention.residual_connection
        and attention.rescale_output_factor == 1
        and attention.scale == width**-0.5
        and attention.to_out[1].p == 0
        and len({layer.scaling[ADAPTER] for layer in layers}) == 1
    )
