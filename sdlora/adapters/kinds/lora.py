"""LoRA: W + alpha / rank * B A (arXiv 2106.09685), and rsLoRA with alpha / sqrt(rank) (arXiv 2312.03732). LoCon is LoRA on convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod, sqrt
from typing import TYPE_CHECKING, Any

from sdlora.adapters.kind_spec import AdapterKind, FileKind, alpha_over_rank

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import Tensor


def peft_config(rank: int, alpha: float, target_modules: str, dropout: float) -> PeftConfig:
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=alpha, target_modules=target_modules, lora_dropout=dropout, bias="none")


def prepare(layer: Any) -> None:
    """Compute in the base's number format instead of in fp32."""
    from sdlora.adapters.lora_layers import use_own_forward

    use_own_forward(layer)


def parameters(weight: Sequence[int], rank: int) -> int:
    """A is (rank, in, …), B is (out, rank)."""
    return rank * (weight[0] + prod(weight[1:]))


def delta(tensors: Mapping[str, Tensor], weight: Tensor, strength: float) -> Tensor:
    """alpha / rank * up @ down."""
    down, up = joined_down(tensors), tensors["lora_up.weight"]
    scale = strength * alpha_over_rank(tensors, down.shape[0])
    return (up.flatten(1) @ down.flatten(1) * scale).reshape(weight.shape)


def joined_down(tensors: Mapping[str, Tensor]) -> Tensor:
    """`lora_down`, joined with `lora_mid` where LyCORIS splits a convolution into 1x1, k x k, 1x1: (rank, in, …)."""
    import torch

    down, mid = tensors["lora_down.weight"], tensors.get("lora_mid.weight")
    return down if mid is None else torch.einsum("rsij,sc->rcij", mid, down.flatten(1))


LORA = AdapterKind(
    name="lora",
    title="LoRA",
    peft_config=peft_config,
    parameters=parameters,
    file_endings={"lora_A": "lora_down.weight", "lora_B": "lora_up.weight"},
    file_pattern=r"lora_(down|up)\.weight|alpha",
    two_matrices=True,
    prepare=prepare,
    fast_parameters=("lora_B",),
)
ADAPTER_KINDS = (LORA, replace(LORA, name="rslora", title="rsLoRA", alpha_factor=sqrt))
FILE_KINDS = (
    FileKind(
        "lora",
        "LoRA",
        ("lora_down.weight", "lora_up.weight", "lora_mid.weight"),
        delta,
        rank_endings=(("lora_down.weight", 0),),
        input_ending="lora_down.weight",
    ),
)
