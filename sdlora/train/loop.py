"""The training loop: noise, predict, compare, update the adapters; nothing else is ever changed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from sdlora.config import TrainSettings
from sdlora.core.errors import Diverged, Unmoved
from sdlora.core.events import Emit, Stepped
from sdlora.core.text import Text
from sdlora.train.batches import batch_losses
from sdlora.train.memory import out_of_memory
from sdlora.train.rng import key
from sdlora.train.trainer import Trainer

WARMUP_CHECK_STEPS, MIN_CHANGE = 20, 1e-8  # steps after which adapters must have moved, and by how much


def train(trainer: Trainer, emit: Emit, should_stop: Callable[[], bool], after_step: Callable[[int], None]) -> None:
    """Run updates `trainer.done` … `steps`; `after_step(k)` is called when k updates are done.

    Raises:
        Diverged: loss or gradient was not finite 3 times in a row or in 10 of the last 100 steps.
        OutOfMemory: not even one picture at a time with gradient checkpointing fits.
        Unmoved: after `WARMUP_CHECK_STEPS` updates of this process nothing has moved.
    """
    t, first = trainer.settings.train, trainer.step
    start = {name: p.detach().clone() for name, p in trainer.adapters.named_parameters().items()}
    while trainer.step < t.steps and not should_stop():
        step, began = trainer.step, time.monotonic()

        # Learning rate: a pure function of the step.
        for group, rate in zip(trainer.optimizer.param_groups, trainer.rates, strict=True):
            group["lr"] = rate * schedule(step, t)

        # Gradient over batch_size × gradient_accumulation samples, counted through the whole run.
        loss = whole_gradient(trainer, emit, step, trainer.sampler.batch)

        # Update, unless something is not finite. Nobody may save the weights in the middle of it.
        with trainer.weights_lock:
            finite = update(trainer, loss)
            trainer.step = step + 1
        if not finite:
            trainer.skipped.append(step)
            _give_up_if_diverged(trainer.skipped, step)
        if step + 1 == first + WARMUP_CHECK_STEPS:
            _refuse_unmoved(trainer, start)
            start.clear()
        if math.isfinite(loss):
            emit(Stepped(step + 1, loss, trainer.optimizer.param_groups[0]["lr"], time.monotonic() - began))
        after_step(step + 1)


def schedule(step: int, t: TrainSettings) -> float:
    """The factor on the learning rate for update number `step` (from 0): linear warm-up, then the chosen fall to 0."""
    if step < t.warmup_steps:
        return (step + 1) / t.warmup_steps
    progress = (step - t.warmup_steps) / max(1, t.steps - t.warmup_steps)
    if t.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1.0 if t.schedule == "constant" else 1 - progress


def whole_gradient(trainer: Trainer, emit: Emit, step: int, batch: Callable[[int], list[int]]) -> float:
    """The gradient of one update over all processes, with whatever memory there is; returns its loss."""
    loss = out_of_memory(trainer, emit, partial(gradient, trainer, step, batch))
    trainer.world.all_reduce_grads(trainer.adapters.named_parameters().values())
    return loss


def gradient(trainer: Trainer, step: int, batch: Callable[[int], list[int]]) -> float:
    """Add up this process' share of one update's gradient, over batches by their global number; returns its part of the loss."""
    t, loss, position = trainer.settings.train, 0.0, 0
    for micro in range(t.gradient_accumulation):
        number = step * t.gradient_accumulation + micro
        pictures = batch(number)
        own = trainer.world.shard(len(pictures), position)
        position += len(pictures)
        size = max(1, -(-len(own) // trainer.micro_batches))
        for first in range(0, len(own), size):
            rows = own[first : first + size]
            torch.manual_seed(key(t.seed, "dropout", step, micro, 0))
            samples = {number * t.batch_size + k: pictures[k] for k in rows}
            with trainer.adapters.batch_slice.select(rows, len(pictures)):
                part = batch_losses(trainer, samples).sum() / (len(pictures) * t.gradient_accumulation)
                trainer.scaler.scale(part).backward()
            loss += part.item()
    return loss


def update(trainer: Trainer, loss: float) -> bool:
    """Clip and apply the gradient; False (and nothing applied) where loss or gradient is not finite."""
    trainer.scaler.unscale_(trainer.optimizer)
    parameters = list(trainer.adapters.named_parameters().values())
    limit = trainer.settings.train.max_grad_norm or math.inf
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    # An fp16 scale that is still too high is found by overflowing: that is its search, not a divergence.
    searching = trainer.scaler.is_enabled() and trainer.scaler.get_scale() > 1
    finite = math.isfinite(loss) and (math.isfinite(norm.item()) or searching)
    if finite:
        trainer.scaler.step(trainer.optimizer)  # with a scaler: only where no gradient overflowed
        trainer.scaler.update()
        _average(trainer)
    trainer.optimizer.zero_grad(set_to_none=True)
    return finite


@torch.no_grad()
def _average(trainer: Trainer) -> None:
    """Exponential moving average with a short memory at first: decay min(ema, (1 + n) / (10 + n)) after n updates."""
    decay = min(trainer.settings.train.ema, (1 + trainer.step) / (10 + trainer.step))
    for name, p in trainer.adapters.named_parameters().items() if trainer.ema_weights else ():
        trainer.ema_weights[name].lerp_(p, 1 - decay)


def _refuse_unmoved(trainer: Trainer, start: dict[str, Tensor]) -> None:
    """fp32 keeps seven digits: less than `MIN_CHANGE` is lost beside any weight that a layer already has."""
    furthest = max(
        (p.detach() - start[name]).abs().max().item() for name, p in trainer.adapters.named_parameters().items()
    )
    if furthest < MIN_CHANGE:
        raise Unmoved(
            Text(
                f"After {WARMUP_CHECK_STEPS} steps the adapters are where they began (moved by {furthest:.0e}), so nothing would be learned. Raise the learning rate; 1e-4 is usual.",
                f"{WARMUP_CHECK_STEPS} ステップ経ってもアダプターが動いていません(変化 {furthest:.0e})。このままでは何も学習されません。学習率を上げてください(通常は 1e-4)。",
            )
        )


def _give_up_if_diverged(skipped: list[int], step: int) -> None:
    in_a_row = all(k in skipped for k in range(step - 2, step + 1))
    if in_a_row or sum(k > step - 100 for k in skipped) >= 10:
        raise Diverged(
            Text(
                f"Training diverged at step {step + 1}: loss or gradient is not finite. Lower the learning rate (to a third), or set precision to fp32 or bf16.",
                f"ステップ {step + 1} で学習が発散しました(損失または勾配が有限値ではありません)。学習率を 3 分の 1 に下げるか、精度を fp32 か bf16 にしてください。",
            )
        )
