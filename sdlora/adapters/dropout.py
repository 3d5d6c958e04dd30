"""Adapter dropout whose mask is drawn for the whole batch, so that a micro-batch or another process drops the same inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout


@dataclass
class BatchSlice:
    """The rows of a batch of `batch_size` that a forward pass computes; `batch_size` = 0: all of them."""

    batch_size: int = 0
    rows: Sequence[int] = ()

    @contextmanager
    def select(self, rows: Sequence[int], batch_size: int) -> Iterator[None]:
        """Within the context, forward and backward passes compute these rows of the batch."""
        self.batch_size, self.rows = (0 if len(rows) == batch_size else batch_size), rows
        try:
            yield
        finally:
            self.batch_size, self.rows = 0, ()


class Dropout(nn.Module):
    """Replaces PEFT's dropout layer; draws from the global generator exactly what PEFT's would for the whole batch."""

    def __init__(self, p: float, batch_slice: BatchSlice):
        super().__init__()
        self.p, self.batch_slice = p, batch_slice

    def forward(self, x: Tensor) -> Tensor:
        """(rows, …) -> the same shape, zeroed with probability p, the rest scaled by 1 / (1 - p)."""
        if not (self.training and self.batch_slice.batch_size):
            return dropout(x, self.p, self.training)
        # the order in memory decides which draw is whose
        strides = (x[0].numel(), *x.stride()[1:])
        like = torch.empty_strided((self.batch_slice.batch_size, *x.shape[1:]), strides, dtype=x.dtype, device=x.device)
        return x * dropout(torch.ones_like(like), self.p)[list(self.batch_slice.rows)]
