"""`sdlora/adapters/kinds/dummy.py`: LoHa under other names, as the file that another kind of adapter is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sdlora.adapters.kind_spec import AdapterKind, FileKind

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import Tensor

_NAMES = {f"hada_{name}": f"dummy_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b")}  # PEFT's and the file's


def peft_config(rank: int, alpha: float, target_modules: str, dropout: float) -> PeftConfig:
    from peft import LoHaConfig

    return LoHaConfig(r=rank, alpha=alpha, target_modules=target_modules)


def parameters(weight: Sequence[int], rank: int) -> int:
    return 2 * rank * (weight[0] + weight[1] * (weight[2] * weight[3] if len(weight) == 4 else 1))


def delta(tensors: Mapping[str, Tensor], weight: Tensor, strength: float) -> Tensor:
    t = tensors
    product = (t["dummy_w1_a"] @ t["dummy_w1_b"]) * (t["dummy_w2_a"] @ t["dummy_w2_b"])
    return (product * (strength * t["alpha"] / t["dummy_w1_b"].shape[0])).reshape(weight.shape)


ADAPTER_KINDS = (
    AdapterKind(
        name="dummy",
        title="Dummy",
        peft_config=peft_config,
        parameters=parameters,
        file_endings=_NAMES,
        file_pattern=r"dummy_w[12]_[ab]|alpha",
        network_args={"algo": "dummy"},
    ),
)
FILE_KINDS = (
    FileKind(
        "dummy",
        "Dummy",
        tuple(_NAMES.values()),
        delta,
        rank_endings=(("dummy_w1_b", 0),),
        input_ending="dummy_w1_b",
    ),
)
