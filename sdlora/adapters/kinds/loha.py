"""LoHa: the change is the elementwise product of two low-rank matrices (FedPara, arXiv 2108.06098), as in LyCORIS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sdlora.adapters.kind_spec import AdapterKind, FileKind
from sdlora.adapters.kinds import lora

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import Tensor

_FACTORS = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")  # a (out, rank), b (rank, in)


def peft_config(rank: int, alpha: float, target_modules: str, dropout: float) -> PeftConfig:
    """It starts without effect, as in LyCORIS. It has no dropout of inputs."""
    from peft import LoHaConfig

    return LoHaConfig(r=rank, alpha=alpha, target_modules=target_modules)


def parameters(weight: Sequence[int], rank: int) -> int:
    """Two pairs of matrices."""
    return 2 * lora.parameters(weight, rank)


def delta(tensors: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    """alpha / rank * (w1_a @ w1_b) * (w2_a @ w2_b)."""
    t = tensors
    product = (t["hada_w1_a"] @ t["hada_w1_b"]) * (t["hada_w2_a"] @ t["hada_w2_b"])
    return (product * (t["alpha"] / t["hada_w1_b"].shape[0])).reshape(weight.shape)


ADAPTER_KINDS = (
    AdapterKind(
        name="loha",
        title="LoHa",
        peft_config=peft_config,
        parameters=parameters,
        file_endings={name: name for name in _FACTORS},
        file_pattern=r"hada_w[12]_[ab]|alpha",
        network_args={"algo": "loha"},
        inactive_settings=("lora.dropout", "train.lora_plus"),
    ),
)
FILE_KINDS = (
    FileKind(
        "loha",
        "LoHa",
        (*_FACTORS, "hada_t1", "hada_t2"),
        delta,
        rank_endings=(("hada_w1_b", 0),),
        input_ending="hada_w1_b",
    ),
)
