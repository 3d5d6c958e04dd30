"""DoRA: the direction of each column of a weight is learned by a LoRA, its length by itself (arXiv 2402.09353, equation 5).

PEFT normalises rows. A1111, ComfyUI and Forge all read lengths of columns, and no other orientation alike: of rows, A1111 makes noise.
So PEFT's layers keep their matrices and get `column_magnitude.ColumnMagnitude` for their magnitudes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def rescale(delta: Tensor, weight: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """The change that a file's layer makes with its `dora_scale`, from the change that it makes without."""
    from sdlora.adapters.column_magnitude import column_norms

    merged = weight + delta
    return merged * (tensors["dora_scale"] / column_norms(merged)) - weight


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
