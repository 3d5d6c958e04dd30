"""What an adapter kind must say: how PEFT builds it, how many parameters it trains, and what its layers are called in a file.

Another kind is one such value in a file of its own under `kinds/`, and its name in the settings' Literal. Nothing here imports torch:
the page counts parameters, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from torch import Tensor

ADAPTER = "sdlora"  # PEFT's name of the adapter inside a layer


def alpha_over_rank(tensors: Mapping[str, Tensor], rank: int) -> float:
    """The scale of a layer in a file: without an alpha, 1."""
    return tensors["alpha"].item() / rank if "alpha" in tensors else 1.0


def unchanged(layer: Any) -> None:
    """PEFT's layer is used as it is."""


def set_scale(layer: Any, strength: float) -> None:
    """PEFT's own: the adapter's scale times `strength`."""
    layer.set_scale(ADAPTER, strength)


def peft_delta(layer: Any) -> Tensor:
    """PEFT's own change of the weight, in fp32."""
    delta: Tensor = layer.get_delta_weight(ADAPTER).float()
    return delta


@dataclass(frozen=True)
class AdapterKind:
    """A kind that can be trained. Parameters go by PEFT's names: `lora_A`, `lora_B`, `hada_w1_a`, …"""

    name: str  # the value of `lora.kind`
    title: str  # as people write it
    peft_config: Callable[[int, float, str, float], PeftConfig]  # rank, alpha, pattern of module paths, dropout
    parameters: Callable[
        [Sequence[int], int], int
    ]  # (weight shape (out, in, …), rank) -> trained parameters of a layer
    file_endings: Mapping[str, str]  # parameter -> what follows the layer's name in a file
    file_pattern: (
        str  # regular expression for those endings, written apart from them so that the written file is checked by it
    )
    two_matrices: bool = False  # W + scale * B A: every program and every format holds it
    network_args: Mapping[str, str] | None = (
        None  # LyCORIS' words for it in `ss_network_args`; None: sd-scripts' own LoRA
    )
    alpha_factor: Callable[[int], float] = lambda rank: 1.0  # the change is multiplied with alpha / rank times this
    full_precision: tuple[str, ...] = ()  # parameters that a file holds in fp32 whatever its number format
    scale_carrier: Callable[[Mapping[str, Tensor]], str | None] = lambda parameters: None  # see `to_file`
    prepare: Callable[[Any], None] = unchanged  # after injection: the PEFT layer
    set_strength: Callable[[Any, float], None] = set_scale  # 0: the base layer's own output, bit for bit
    delta: Callable[[Any], Tensor] = peft_delta  # live layer -> change of its weight at strength 1, fp32
    fast_parameters: tuple[str, ...] = ()  # those that LoRA+ trains at a higher rate
    inactive_settings: tuple[str, ...] = ()  # settings without effect for this kind

    def to_file(
        self, parameters: Mapping[str, Tensor], alpha: float, rank: int, scale: float, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        """A live layer's parameters as its file tensors, ending -> tensor, its alpha among them.

        Readers of LoKr find the rank at a low-rank factor, and ignore alpha where both are full. There the scale is multiplied into
        one parameter, the `scale_carrier`, and alpha is the rank.
        """
        import torch

        carrier = self.scale_carrier(parameters)
        tensors = {
            self.file_endings[name]: (value * scale if name == carrier else value).to(
                torch.float32 if name in self.full_precision else dtype
            )
            for name, value in parameters.items()
        }
        return tensors | {"alpha": torch.tensor(float(rank) if carrier else alpha, dtype=dtype)}

    def from_file(
        self, tensors: Mapping[str, Tensor], parameters: Mapping[str, Tensor], scale: float
    ) -> dict[str, Tensor]:
        """The way back: values for those `parameters` that the file has, in fp32."""
        carrier = self.scale_carrier(parameters)
        return {
            name: tensor.float() / (scale if name == carrier else 1.0)
            for name in parameters
            if (tensor := tensors.get(self.file_endings[name])) is not None
        }


@dataclass(frozen=True)
class FileKind:
    """A kind of layer in files, whoever wrote them. Not all of them can be trained here."""

    name: str
    title: str
    endings: tuple[str, ...]  # of its tensors; each belongs to this kind alone
    # (tensors by ending, weight, strength) -> the change of the weight, all in fp32. None: known by name only
    delta: Callable[[Mapping[str, Tensor], Tensor, float], Tensor] | None
    rank_endings: tuple[
        tuple[str, int], ...
    ] = ()  # tensors with the rank as one side, and which; the first that is there tells
    input_ending: str = ""  # the tensor whose shape tells how wide the layer's input is
