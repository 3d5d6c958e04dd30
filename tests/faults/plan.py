"""Faults that are put in a worker's way: functions that the fork server calls in a fork before its `main`."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch


def apply(faults: dict[str, Any]) -> None:
    for name, value in faults.items():
        globals()[name](value)


def wait_for(file: str) -> None:
    """Nothing is done until this file is there."""
    while not os.path.exists(file):
        time.sleep(0.01)


def kill_at(step: int) -> None:
    """SIGKILL when this step has been told."""
    from sdlora.core import events

    append = events.append

    def kill(path: Path, event: events.Event) -> None:
        append(path, event)
        if isinstance(event, events.Stepped) and event.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    events.append = kill


def kill_in_save(operation: int) -> None:
    """SIGKILL after this many file operations inside state writes."""
    from sdlora.core import files
    from sdlora.train import resume
    from tests.disk import Disk, Gone

    disk, save = Disk("kill", operation), resume.save

    def killing(*arguments: Any) -> None:
        files.os = disk  # type: ignore[assignment]
        try:
            save(*arguments)
        except Gone:
            os.kill(os.getpid(), signal.SIGKILL)
        files.os = os  # type: ignore[assignment]

    resume.save = killing


def full_disk(where: str) -> None:
    """No room for files whose path has this in it: half of what is written goes in."""
    from sdlora.core import files

    def refusing(real: Any) -> Any:
        def refuse(path: Path, content: Any) -> None:
            if where in str(path):
                if real is create:
                    real(path, content[: len(content) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            real(path, content)

        return refuse

    create = files.create
    files.create, files.append_line = refusing(create), refusing(files.append_line)
    from sdlora.core import events
    from sdlora.train import resume

    events.append_line, resume.create = files.append_line, files.create


def full_log(_: bool) -> None:
    """No room for the log either."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    os.dup2(full, 2)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def threads(count: int) -> None:
    """As many threads as another machine would take."""
    torch.set_num_threads(count)


def out_of_memory(largest_batch: int) -> None:
    """More than this many pictures at once, or any without gradient checkpointing, do not fit."""
    from sdlora.train import batches

    losses = batches.sample_losses

    def greedy(trainer: Any, samples: list[Any]) -> torch.Tensor:
        if torch.is_grad_enabled() and (
            len(samples) > largest_batch or not trainer.base.denoiser.is_gradient_checkpointing
        ):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return losses(trainer, samples)

    batches.sample_losses = greedy


def not_finite(steps: list[int]) -> None:
    """The loss of these steps is not a number."""
    from sdlora.train import batches

    losses = batches.sample_losses

    def broken(trainer: Any, *rest: Any) -> torch.Tensor:
        found = losses(trainer, *rest)
        return found * float("nan") if torch.is_grad_enabled() and trainer.step in steps else found

    batches.sample_losses = broken


def broken_weights(step: int) -> None:
    """A finite gradient, but a weight that is not finite after it."""
    from sdlora.train import loop

    update = loop.update

    def breaking(trainer: Any, loss: float) -> bool:
        finite = update(trainer, loss)
        if trainer.step == step:
            next(iter(trainer.adapters.named_parameters().values())).data.view(-1)[0] = float("inf")
        return finite

    loop.update = breaking


def gpu_lost(step: int) -> None:
    """The device answers no more from this step on."""
    from sdlora.train import batches

    losses = batches.sample_losses

    def lost(trainer: Any, *rest: Any) -> torch.Tensor:
        if trainer.step >= step:
            raise RuntimeError("CUDA error: unspecified launch failure")
        return losses(trainer, *rest)

    batches.sample_losses = lost


def long_kernel(step: int) -> None:
    """One call into native code that takes far longer than anybody waits; like a kernel, it lets other threads run."""
    from sdlora.train import batches

    losses = batches.sample_losses

    def slow(trainer: Any, *rest: Any) -> torch.Tensor:
        if torch.is_grad_enabled() and trainer.step == step:
            big = torch.ones(3000, 3000)
            until = time.monotonic() + 60
            while time.monotonic() < until:
                big = (big @ big) * 1e-4
        return losses(trainer, *rest)

    batches.sample_losses = slow


def nan_latents(name: str) -> None:
    """The VAE fails on one picture."""
    from sdlora.train import latents

    pixels = latents._pixels

    def broken(path: Path, size: tuple[int, int]) -> torch.Tensor:
        found = pixels(path, size)
        return found * float("nan") if name in path.name else found

    latents._pixels = broken


def clock(jump: float) -> None:
    """The wall clock jumps in the middle."""
    real, calls = time.time, iter(range(10**9))
    time.time = lambda: real() + (jump if next(calls) % 2 else 0)
