"""The training loop: learning rate, micro-batches, out-of-memory retry, all-reduce, clipping, optimizer step, EMA.

Only the adapters are ever changed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sdlora.config import TrainSettings
from sdlora.core.device_errors import is_out_of_memory, missing_memory
from sdlora.core.errors import Diverged, OutOfMemory, Unmoved
from sdlora.core.events import Emit, Stepped, Warned
from sdlora.core.oom_retry import free_unused_memory
from sdlora.core.seeding import key
from sdlora.core.text import Text
from sdlora.train.batches import BatchSampler, batch_losses
from sdlora.train.spill import SpillWatch
from sdlora.train.trainer import Trainer

WARMUP_CHECK_STEPS, MIN_CHANGE = 20, 1e-8  # steps after which adapters must have moved, and by how much


def train(trainer: Trainer, emit: Emit, should_stop: Callable[[], bool], after_step: Callable[[int], None]) -> None:
    """Run updates `trainer.step` … `train.steps`; `after_step(k)` is called when k updates are done.

    Raises:
        Diverged: loss or gradient was not finite 3 times in a row or in 10 of the last 100 steps.
        OutOfMemory: not even one picture at a time with gradient checkpointing fits.
        Unmoved: after `WARMUP_CHECK_STEPS` updates of this process nothing has moved.
    """
    t, first = trainer.settings.train, trainer.step
    sampler = BatchSampler([item.shape for item in trainer.items], t.batch_size, t.seed)
    spill = SpillWatch(trainer.base.device)
    initial = {name: p.detach().clone() for name, p in trainer.parameters.items()}
    while trainer.step < t.steps and not should_stop():
        step, began = trainer.step, time.monotonic()

        # Learning rate: a pure function of the step.
        for group, rate in zip(trainer.optimizer.param_groups, trainer.rates, strict=True):
            group["lr"] = rate * schedule(step, t)

        # Gradient over batch_size × gradient_accumulation samples.
        accumulation = t.gradient_accumulation
        loss = gradient(trainer, emit, step, [sampler.batch(step * accumulation + k) for k in range(accumulation)])

        # Update, unless something is not finite. Nobody may save the weights in the middle of it.
        with trainer.weights_lock:
            finite = update(trainer, loss)
            trainer.step = step + 1
        if not finite:
            trainer.skipped.append(step)
            _refuse_diverged(trainer.skipped, step)
        if step + 1 == first + WARMUP_CHECK_STEPS:
            _refuse_unmoved(trainer, initial)
            initial.clear()
        seconds = time.monotonic() - began
        if math.isfinite(loss):
            emit(Stepped(step + 1, loss, trainer.optimizer.param_groups[0]["lr"], seconds))
        if warning := spill.after_step(seconds):
            emit(warning)
        after_step(step + 1)


def schedule(step: int, t: TrainSettings) -> float:
    """The factor on the learning rate for update number `step` (from 0): linear warm-up, then the chosen decay to 0."""
    if step < t.warmup_steps:
        return (step + 1) / t.warmup_steps
    progress = (step - t.warmup_steps) / max(1, t.steps - t.warmup_steps)
    if t.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1.0 if t.schedule == "constant" else 1 - progress


def gradient(trainer: Trainer, emit: Emit, step: int, batches: list[list[int]]) -> float:
    """The gradient of one update, summed over all processes; returns its loss. `batches` are indexes of items.

    Where memory runs out, in any process, all retry the step with gradient checkpointing, then in twice as many micro-batches.
    That stays for the rest of the run, and is emitted as a warning.

    Raises:
        OutOfMemory: one picture at a time with gradient checkpointing does not fit either.
    """
    while True:
        loss, reason = 0.0, ""
        try:
            loss = backward(trainer, step, batches)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error) or type(error).__name__
        failed, total_loss = trainer.world.all_reduce(bool(reason), loss)
        if not failed:
            trainer.world.all_reduce_grads(trainer.parameters.values(), trainer.warn)
            return total_loss
        # Outside the except block: the exception holds the frames that hold the tensors.
        trainer.optimizer.zero_grad(set_to_none=True)
        free_unused_memory()
        _use_less_memory(trainer, emit, reason)


def backward(trainer: Trainer, step: int, batches: list[list[int]]) -> float:
    """Accumulate this process' shard of one update's gradient; returns its part of the loss.

    Samples are numbered through the whole run, so neither processes nor micro-batches change what a sample draws.
    """
    t, loss, position = trainer.settings.train, 0.0, 0
    for micro, batch in enumerate(batches):
        first_sample = (step * t.gradient_accumulation + micro) * t.batch_size
        own = trainer.world.shard(len(batch), position)
        position += len(batch)
        size = max(1, -(-len(own) // trainer.micro_batches))
        for start in range(0, len(own), size):
            rows = own[start : start + size]
            torch.manual_seed(key(t.seed, "dropout", step, micro, 0))
            with trainer.adapters.batch_slice.select(rows, len(batch)):
                losses = batch_losses(trainer, {first_sample + row: batch[row] for row in rows})
                part = losses.sum() / (len(batch) * t.gradient_accumulation)
                trainer.scaler.scale(part).backward()
            loss += part.item()
    return loss


def _use_less_memory(trainer: Trainer, emit: Emit, reason: str) -> None:
    denoiser: Any = trainer.base.denoiser
    if not denoiser.is_gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
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
        more = missing_memory(reason)
        raise OutOfMemory(
            Text(
                f"There is not enough memory, not even for one picture at a time: {more} more is needed. Lower the resolution or the rank, or close what else uses the memory.",
                f"1 枚ずつの計算でもメモリが足りません(さらに {more} 必要)。解像度かランクを下げるか、他のプログラムを閉じてください。",
            )
        )


def update(trainer: Trainer, loss: float) -> bool:
    """Clip and apply the gradient; False (and nothing applied) where loss or gradient is not finite."""
    trainer.scaler.unscale_(trainer.optimizer)
    limit = trainer.settings.train.max_grad_norm or math.inf
    norm = nn.utils.clip_grad_norm_(list(trainer.parameters.values()), limit)
    # An fp16 scale that is still too high is found by overflowing: that is its search, not a divergence.
    searching = trainer.scaler.is_enabled() and trainer.scaler.get_scale() > 1
    finite = math.isfinite(loss) and (math.isfinite(norm.item()) or searching)
    if finite:
        trainer.scaler.step(trainer.optimizer)  # with a scaler: only where no gradient overflowed
        trainer.scaler.update()
        _update_ema(trainer)
    else:  # ready to unscale again; the scale stays, since a loss that is not finite says nothing about it
        trainer.scaler.update(trainer.scaler.get_scale())
    trainer.optimizer.zero_grad(set_to_none=True)
    return finite


@torch.no_grad()
def _update_ema(trainer: Trainer) -> None:
    """Exponential moving average with a short memory at first: decay min(ema, (1 + n) / (10 + n)) after n updates."""
    decay = min(trainer.settings.train.ema, (1 + trainer.step) / (10 + trainer.step))
    for name, average in trainer.ema_weights.items():
        average.lerp_(trainer.parameters[name], 1 - decay)


def _refuse_unmoved(trainer: Trainer, initial: dict[str, Tensor]) -> None:
    """fp32 keeps seven digits: less than `MIN_CHANGE` is lost beside any weight that a layer already has."""
    largest = max((p.detach() - initial[name]).abs().max().item() for name, p in trainer.parameters.items())
    if largest < MIN_CHANGE:
        raise Unmoved(
            Text(
                f"After {WARMUP_CHECK_STEPS} steps the adapters are where they began (moved by {largest:.0e}), so nothing would be learned. Raise the learning rate; 1e-4 is usual.",
                f"{WARMUP_CHECK_STEPS} ステップ経ってもアダプターが動いていません(変化 {largest:.0e})。このままでは何も学習されません。学習率を上げてください(通常は 1e-4)。",
            )
        )


def _refuse_diverged(skipped: list[int], step: int) -> None:
    in_a_row = all(k in skipped for k in range(step - 2, step + 1))
    if in_a_row or sum(k > step - 100 for k in skipped) >= 10:
        raise Diverged(
            Text(
                f"Training diverged at step {step + 1}: loss or gradient is not finite. Lower the learning rate (to a third), or set precision to fp32 or bf16.",
                f"ステップ {step + 1} で学習が発散しました(損失または勾配が有限値ではありません)。学習率を 3 分の 1 に下げるか、精度を fp32 か bf16 にしてください。",
            )
        )
