"""LoKr: the change is a Kronecker product of two small matrices (arXiv 2309.14859), as in LyCORIS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt, prod
from typing import TYPE_CHECKING

from sdlora.adapters.kind_spec import AdapterKind, FileKind, alpha_over_rank
from sdlora.adapters.kinds.loha import low_rank

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import Tensor

# Each factor is full, or a product of two: w1 (out1, in1) or w1_a (out1, rank) @ w1_b (rank, in1), w2 alike.
_FACTORS = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
_FULL = {"lokr_w1", "lokr_w2"}


def peft_config(rank: int, alpha: float, target_modules: str, dropout: float) -> PeftConfig:
    """It starts without effect, as in LyCORIS. It has no dropout of inputs."""
    from peft import LoKrConfig

    return LoKrConfig(r=rank, alpha=alpha, target_modules=target_modules, init_weights="lycoris")


def parameters(weight: Sequence[int], rank: int) -> int:
    """w1 is full; w2 is, too, where a low rank would save nothing."""
    (out1, out2), (in1, in2) = factors(weight[0]), factors(weight[1])
    kernel = prod(weight[2:])
    low = rank * (out2 + in2 * kernel)
    return out1 * in1 + (out2 * in2 * kernel if 2 * rank >= max(out2, in2) else low)


def factors(size: int) -> tuple[int, int]:
    """The two factors of a side: as near to its square root as whole numbers come, the smaller first."""
    small = next(k for k in range(isqrt(size), 0, -1) if size % k == 0)
    return small, size // small


def _scale_carrier(parameters: Mapping[str, Tensor]) -> str | None:
    return "lokr_w2" if parameters.keys() == _FULL else None


def delta(tensors: Mapping[str, Tensor], weight: Tensor, strength: float) -> Tensor:
    """alpha / rank * kron(w1, w2); the rank is that of a factor that has one, without one alpha counts nothing."""
    import torch

    t = tensors
    rank = next((t[name].shape[0] for name in ("lokr_w2_b", "lokr_w1_b") if name in t), None)
    w1 = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
    w2 = t["lokr_w2"] if "lokr_w2" in t else low_rank(t["lokr_w2_a"], t["lokr_w2_b"], t.get("lokr_t2"))
    if w2.dim() == 4:
        w1 = w1[:, :, None, None]
    scale = strength * (alpha_over_rank(t, rank) if rank else 1.0)
    return (scale * torch.kron(w1.contiguous(), w2.contiguous())).reshape(weight.shape)


ADAPTER_KINDS = (
    AdapterKind(
        name="lokr",
        title="LoKr",
        peft_config=peft_config,
        parameters=parameters,
        file_endings={name: name for name in _FACTORS},
        file_pattern=r"lokr_w[12](_[ab])?|alpha",
        network_args={"algo": "lokr"},
        scale_carrier=_scale_carrier,
        inactive_settings=("lora.dropout", "train.lora_plus"),
    ),
)
FILE_KINDS = (
    FileKind("lokr", "LoKr", (*_FACTORS, "lokr_t2"), delta, rank_endings=(("lokr_w2_b", 0), ("lokr_w1_b", 0))),
)
