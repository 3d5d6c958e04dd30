"""Encoded texts, as a denoiser is given them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """One encoded text or a batch of them, by the names that diffusers' pipelines have for these arguments.

    `prompt_embeds` is (T, width) or (B, T, width), of SDXL the states of both encoders side by side; `pooled_prompt_embeds`
    (width,) or (B, width).
    """

    tensors: dict[str, Tensor]

    def __getitem__(self, row: int) -> Conditioning:
        """One text of a batch."""
        return Conditioning({name: value[row] for name, value in self.tensors.items()})

    def batch(self) -> Conditioning:
        """One text as a batch of one."""
        return Conditioning({name: value[None] for name, value in self.tensors.items()})

    def to(self, device: torch.device) -> Conditioning:
        return Conditioning({name: value.to(device) for name, value in self.tensors.items()})

    def zeros(self) -> Conditioning:
        return Conditioning({name: torch.zeros_like(value) for name, value in self.tensors.items()})

    def keep(self, rows: Tensor) -> Conditioning:
        """The texts whose entry in `rows` (B,) is 1, zeros in place of those where it is 0."""
        return Conditioning(
            {name: value * rows.to(value).view(-1, *[1] * (value.ndim - 1)) for name, value in self.tensors.items()}
        )


def stack(texts: Sequence[Conditioning]) -> Conditioning:
    """Single texts as a batch."""
    return Conditioning({name: torch.stack([text.tensors[name] for text in texts]) for name in texts[0].tensors})
