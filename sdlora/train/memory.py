"""When memory runs out: the same step again with less at a time, since every step can be repeated."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from typing import Any

import torch

from sdlora.core.errors import OutOfMemory
from sdlora.core.events import Emit, Warned
from sdlora.core.text import Text
from sdlora.train.trainer import Trainer


def out_of_memory(trainer: Trainer, emit: Emit, gradient: Callable[[], float]) -> float:
    """Compute a gradient, this process' share of it; returns the loss over all. After an out-of-memory, again: with gradient checkpointing, then in halves, quarters, …

    What was changed is told as an event and stays for the rest of the run.

    Raises:
        OutOfMemory: one picture at a time with gradient checkpointing does not fit either.
    """
    while True:
        loss, reason = 0.0, ""
        try:
            loss = gradient()
        except (torch.OutOfMemoryError, RuntimeError) as error:
            reason = str(error) or type(error).__name__
            if not _is_out_of_memory(error):
                raise
        failed, whole = trainer.world.all_reduce(bool(reason), loss)
        if not failed:
            return whole
        # Outside the except block: the exception holds the frames that hold the tensors.
        _release(trainer)
        _use_less(trainer, emit, reason)


def _is_out_of_memory(error: Exception) -> bool:
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "not enough memory" in str(error)
        or "can't allocate memory" in str(error)
    )


def _release(trainer: Trainer) -> None:
    trainer.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    if trainer.base.device.type == "cuda":
        torch.cuda.empty_cache()


def _use_less(trainer: Trainer, emit: Emit, reason: str) -> None:
    unet: Any = trainer.base.unet
    if not unet.is_gradient_checkpointing:
        unet.enable_gradient_checkpointing()
        emit(
            Warned(
                "memory",
                "Memory ran out: gradient checkpointing is on from here. The result is the same, each step takes longer.",
                "メモリが不足したため、ここから勾配チェックポイントをオンにしました。結果は同じですが、1 ステップの時間が延びます。",
            )
        )
    elif trainer.micro_batches < trainer.settings.train.batch_size:
        trainer.micro_batches *= 2
        emit(
            Warned(
                "memory",
                f"Memory ran out: each batch is computed in {trainer.micro_batches} pieces from here. The result is the same.",
                f"メモリが不足したため、ここから各バッチを {trainer.micro_batches} 分割で計算します。結果は同じです。",
            )
        )
    else:
        raise OutOfMemory(_needed(reason))


def _needed(reason: str) -> Text:
    """How much was missing, by the allocator's own words."""
    asked = re.search(r"allocate ([\d.]+ ?[KMG]i?B)|allocate (\d+) bytes", reason)
    more = (asked[1] or f"{int(asked[2]) / 1e9:.1f} GB") if asked else "more"
    return Text(
        f"There is not enough memory, not even for one picture at a time: {more} more is needed. Lower the resolution or the rank, or close what else uses the memory.",
        f"1 枚ずつの計算でもメモリが足りません(さらに {more} 必要)。解像度かランクを下げるか、他のプログラムを閉じてください。",
    )
