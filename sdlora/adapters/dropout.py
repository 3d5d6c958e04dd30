"""Adapter dropout whose mask belongs to the whole batch: a part of it, computed alone or elsewhere, drops the same inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout


@dataclass
class Shown:
    """Which rows of a batch of `whole` a forward pass is given; `whole` = 0: all of them."""

    whole: int = 0
    rows: Sequence[int] = ()

    @contextmanager
    def only(self, rows: Sequence[int], whole: int) -> Iterator[None]:
        """Inside, forward and backward passes see these rows of the batch."""
        self.whole, self.rows = (0 if len(rows) == whole else whole), rows
        try:
            yield
        finally:
            self.whole, self.rows = 0, ()


class Dropout(nn.Module):
    """In the place of PEFT's; draws from the global generator exactly as that one does for the whole batch."""

    def __init__(self, share: float, shown: Shown):
        super().__init__()
        self.share, self.shown = share, shown

    def forward(self, x: Tensor) -> Tensor:
        """(rows, …) -> the same with a share of it 0 and the rest scaled up."""
        if not (self.training and self.shown.whole):
            return dropout(x, self.share, self.training)
        # the order in memory decides which draw is whose
        strides = (x[0].numel(), *x.stride()[1:])
        like = torch.empty_strided((self.shown.whole, *x.shape[1:]), strides, dtype=x.dtype, device=x.device)
        return x * dropout(torch.ones_like(like), self.share)[list(self.shown.rows)]
