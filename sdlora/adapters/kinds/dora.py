"""DoRA: the direction of each column of a weight is learned by a LoRA, its length by itself (arXiv 2402.09353, equation 5).

PEFT normalises rows. A1111, ComfyUI and Forge all read lengths of columns, and no other orientation alike: of rows, A1111 makes noise.
So PEFT's layers keep their matrices and get `column_magnitude.ColumnMagnitude` for their magnitudes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sdlora.adapters.kind_spec import ADAPTER, AdapterKind
from sdlora.adapters.kinds import lora

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import Tensor


def peft_config(rank: int, alpha: float, target_modules: str, dropout: float) -> PeftConfig:
    from peft import LoraConfig

    return LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=target_modules, lora_dropout=dropout, use_dora=True, bias="none"
    )


def parameters(weight: Sequence[int], rank: int) -> int:
    """LoRA's, and a magnitude for each input."""
    return lora.parameters(weight, rank) + weight[1]


def prepare(layer: Any) -> None:
    """Replace PEFT's row magnitudes by those of columns."""
    from sdlora.adapters.column_magnitude import ColumnMagnitude

    layer.lora_magnitude_vector[ADAPTER] = ColumnMagnitude(layer.get_base_layer().weight)


def set_strength(layer: Any, strength: float) -> None:
    layer.lora_magnitude_vector[ADAPTER].strength = strength


def delta(layer: Any) -> Tensor:
    magnitude = layer.lora_magnitude_vector[ADAPTER]
    change: Tensor = magnitude.delta(
        layer.get_base_layer(), layer.lora_A[ADAPTER], layer.lora_B[ADAPTER], layer.scaling[ADAPTER]
    )
    return change


def rescale(delta: Tensor, weight: Tensor, lengths: Tensor, by_rows: bool) -> Tensor:
    """The change that a layer makes with DoRA's lengths, from the change that it makes without: m (W + D) / |W + D| - W.

    A norm is over all that one input touches (columns), or all that makes one output (rows).
    """
    import torch

    merged, side = weight + delta, 0 if by_rows else 1
    others = [dimension for dimension in range(weight.dim()) if dimension != side]
    norms = torch.linalg.vector_norm(merged, dim=others, keepdim=True)
    return merged * (lengths.reshape(norms.shape) / norms) - weight


def is_by_rows(lengths: Tensor, weight: Tensor) -> bool:
    """Whether a file's `dora_scale` holds lengths of rows, (out, 1, …), as LyCORIS has them by default; else of columns, (1, in, …).

    ComfyUI and Forge tell them apart by the same side.
    """
    return lengths.shape[0] == weight.shape[0] and lengths.numel() == weight.shape[0] and lengths.shape[0] != 1


ADAPTER_KINDS = (
    AdapterKind(
        name="dora",
        title="DoRA",
        peft_config=peft_config,
        parameters=parameters,
        file_endings={**lora.LORA.file_endings, "lora_magnitude_vector": "dora_scale"},
        file_pattern=r"lora_(down|up)\.weight|alpha|dora_scale",
        network_args={"algo": "lora", "dora_wd": "True", "wd_on_output": "False"},
        full_precision=("lora_magnitude_vector",),  # fp16 would round the base's own weight, which they rebuild
        prepare=prepare,
        set_strength=set_strength,
        delta=delta,
        fast_parameters=("lora_B",),
    ),
)
