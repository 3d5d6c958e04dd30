"""Compute again with less at a time where memory runs out: the same retry for every phase of a run, and for previews."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import TypeVar

from sdlora.core.device_errors import is_out_of_memory, missing_memory
from sdlora.core.errors import OutOfMemory
from sdlora.core.text import Text

T = TypeVar("T")
Reduce = Callable[
    [], Text | None
]  # take less memory from here, and say what was changed; None = nothing is left to change


def retry_on_oom(compute: Callable[[], T], reduce: Reduce, warn: Callable[[Text], None]) -> T:
    """`compute()`. Each time it runs out of memory, what is unused is freed, `reduce` is applied and told, and it is called again.

    `compute` must leave nothing half done that a second call would count twice.

    Raises:
        OutOfMemory: `reduce` has nothing left to change.
    """
    while True:
        try:
            return compute()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        # Outside the except block: the exception holds the frames that hold the tensors.
        free_unused_memory()
        change = reduce()
        if change is None:
            raise nothing_left(reason)
        warn(change)


def once(text: Text) -> Reduce:
    """Try again once with what could be freed."""
    texts = iter([text])
    return lambda: next(texts, None)


def free_unused_memory() -> None:
    """Collect what nothing refers to, and give the GPU's cached blocks back. Does not import torch."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def nothing_left(reason: str) -> OutOfMemory:
    more = missing_memory(reason)
    return OutOfMemory(
        Text(
            f"There is not enough memory, not even in the smallest parts: {more} more is needed. Lower the resolution or the rank, or close what else uses the memory.",
            f"最小単位に分けてもメモリが足りません(さらに {more} 必要)。解像度かランクを下げるか、他のプログラムを閉じてください。",
        )
    )
