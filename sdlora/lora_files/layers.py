"""A LoRA in memory, whatever file it came from: layers with their two matrices and alpha."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sdlora.core.errors import Diverged
from sdlora.core.text import Text
from sdlora.families.spec import Part


def pad_to_rank(down: Tensor, up: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Both matrices with zeros up to `rank`: the same product."""
    missing = rank - down.shape[0]
    zero_rows, zero_columns = down.new_zeros(missing, *down.shape[1:]), up.new_zeros(len(up), missing, *up.shape[2:])
    return torch.cat([down, zero_rows]), torch.cat([up, zero_columns], 1)


@dataclass(frozen=True)
class Layer:
    """One adapted layer: W + strength * (alpha / rank) * up @ down."""

    part: Part
    path: str  # as `layer_names.canonical` writes it
    down: Tensor  # (rank, in), or (rank, in, k, k) for a convolution
    up: Tensor  # (out, rank), or (out, rank, 1, 1)
    alpha: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def fits(self, shape: torch.Size) -> bool:
        """Whether this layer changes a weight of this shape, (out, in, …)."""
        return self.up.shape[0] == shape[0] and self.up.shape[0] * self.down[0].numel() == shape.numel()

    def empty(self) -> Layer:
        """A layer of rank 0 for the same weight."""
        return replace(self, down=self.down[:0], up=self.up[:, :0], alpha=0.0)

    def padded(self, rank: int) -> Layer:
        """The same layer with zeros up to `rank`, and the same scale."""
        down, up = pad_to_rank(self.down, self.up, rank)
        return replace(self, down=down, up=up, alpha=self.alpha * (rank / self.rank))

    def delta(self, strength: float = 1.0) -> Tensor:
        """The change of the weight in fp32, in the weight's own shape."""
        flat = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return (strength * self.scale) * flat.reshape(self.up.shape[0], *self.down.shape[1:])


@dataclass(frozen=True)
class Lora:
    """A whole file. `family` is `sd1`, `sd2`, `sdxl` or `unknown`; `metadata` is the file's own, all strings."""

    layers: tuple[Layer, ...]  # sorted by part and path, each once
    family: str
    metadata: dict[str, str]

    @property
    def rank(self) -> int:
        """Of most layers."""
        return Counter(layer.rank for layer in self.layers).most_common(1)[0][0]

    @property
    def alpha(self) -> float:
        """Of most layers."""
        return Counter(layer.alpha for layer in self.layers).most_common(1)[0][0]

    @property
    def parts(self) -> list[Part]:
        return sorted({layer.part for layer in self.layers})

    def of(self, part: Part) -> list[Layer]:
        return [layer for layer in self.layers if layer.part == part]

    def cast(self, dtype: torch.dtype) -> Lora:
        return replace(self, layers=tuple(replace(x, down=x.down.to(dtype), up=x.up.to(dtype)) for x in self.layers))


def sort_layers(layers: list[Layer]) -> tuple[Layer, ...]:
    return tuple(sorted(layers, key=lambda layer: (layer.part, layer.path)))


def refuse_not_finite(layers: tuple[Layer, ...]) -> None:
    """Raises Diverged where a weight is no number, or did not fit the file's number format."""
    refuse_tensors({f"{x.path}.{side}": t for x in layers for side, t in (("down", x.down), ("up", x.up))})


def refuse_tensors(tensors: Mapping[str, Tensor]) -> None:
    """The same for tensors by name."""
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise Diverged(
            Text(
                f"{len(bad)} of {len(tensors)} tensors have numbers that are not finite ({bad[0]}), so no file was written. Lower the learning rate, or export as fp32.",
                f"テンソル {len(tensors)} 個中 {len(bad)} 個に有限でない値があるため({bad[0]})、ファイルを書き出しませんでした。学習率を下げるか fp32 で保存してください。",
            )
        )
