"""LoHa: the change is the elementwise product of two low-rank matrices (FedPara, arXiv 2108.06098), as in LyCORIS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sdlora.adapters.kind_spec import AdapterKind, FileKind, alpha_over_rank
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


def delta(tensors: Mapping[str, Tensor], weight: Tensor, strength: float) -> Tensor:
    """alpha / rank * w1 * w2, each w = a @ b, or of three factors where a convolution is split (Tucker)."""
    w1, w2 = (low_rank(tensors[f"hada_w{n}_a"], tensors[f"hada_w{n}_b"], tensors.get(f"hada_t{n}")) for n in (1, 2))
    scale = strength * alpha_over_rank(tensors, tensors["hada_w1_b"].shape[0])
    return (w1 * w2 * scale).reshape(weight.shape)


def low_rank(a: Tensor, b: Tensor, core: Tensor | None) -> Tensor:
    """a (out, rank) @ b (rank, in); with a core (rank, rank, k, k), of a (rank, out) and b (rank, in): (out, in, k, k)."""
    import torch

    return a @ b if core is None else torch.einsum("ijkl,jr,ip->prkl", core, b, a)


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
