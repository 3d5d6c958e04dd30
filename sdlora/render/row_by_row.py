"""A denoiser that computes the rows of its batch one after another: guidance at the memory of a single row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def row_by_row(denoiser: nn.Module) -> Iterator[None]:
    """Inside, a call with a batch of B rows runs B forward passes. Arguments by name with B rows are cut too, inside dicts as well."""
    whole = denoiser.forward

    def forward(x: Tensor, t: Any, **arguments: Any) -> tuple[Tensor]:
        rows = [whole(x[k : k + 1], t, **_row(arguments, k, len(x)))[0] for k in range(len(x))]
        return (torch.cat(rows),)

    mine = "forward" in vars(denoiser)
    denoiser.forward = forward
    try:
        yield
    finally:
        if mine:
            denoiser.forward = whole
        else:
            del denoiser.forward


def _row(value: Any, k: int, rows: int) -> Any:
    if isinstance(value, dict):
        return {name: _row(one, k, rows) for name, one in value.items()}
    return value[k : k + 1] if isinstance(value, Tensor) and value.ndim and len(value) == rows else value
