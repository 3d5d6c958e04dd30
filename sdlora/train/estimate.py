"""Time, memory and file size of a run, measured before it starts: real steps on its largest batch and one drawing, then undone.

Nothing is guessed from sizes: a step, a denoising step, a decode, an evaluation are timed on this machine, with these
settings, and multiplied by how often the run will do them.
"""

from __future__ import annotations

import copy
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import torch

from sdlora.core.events import Emit, Estimate
from sdlora.render.renderer import DrawRequest
from sdlora.render.verify import MAX_SIDE, PROBE
from sdlora.train import outputs
from sdlora.train.batches import BatchSampler
from sdlora.train.evaluate import STRENGTHS
from sdlora.train.loop import gradient, update
from sdlora.train.setup import Run, prompts
from sdlora.train.trainer import Trainer, eval_mode

MIN_STEPS = 20  # of a run for which an estimate is worth what measuring it costs
MIN_TIMED_STEPS = 2  # on the largest batch; more while they take less than MIN_TIMED_SECONDS together
MIN_TIMED_SECONDS, MAX_TIMED_STEPS = 1.0, 8
READER_BYTES = 30_000_000  # of main memory, for the code that reads files back


def estimate(run: Run, began: float) -> Estimate:
    """Time from `began` (of the monotonic clock) to the end of the run, its memory and file size. Leaves no trace in the run.

    Raises:
        OutOfMemory: the largest batch does not fit, not even one picture at a time with gradient checkpointing.
    """
    trainer, settings = run.trainer, run.settings
    with dry_run(trainer):
        step = _step_seconds(trainer, run.emit)
    denoising, decoding = _drawing_seconds(run) if settings.sample.draw else (0.0, 0.0)
    checkpoints = outputs.times_due(run.steps, settings.train.save_every, outputs.CHECKPOINTS_PER_RUN)
    samplings = outputs.times_due(run.steps, settings.train.sample_every, outputs.SAMPLES_PER_RUN)
    pictures = len(prompts(run.request)) * (1 + (len(outputs.SAMPLE_STRENGTHS) - 1) * samplings)
    remaining = (
        run.steps * step
        + run.encoding_seconds_left()
        + pictures * (run.renderer.evaluations(settings.sample.steps) * denoising + decoding)
        + (checkpoints + len(STRENGTHS) if run.evaluator else 0) * run.seconds["judging"]
        + 1.3 * run.seconds["injecting"]  # the certificate injects once more, through diffusers' loader
        + 3 * _certificate_seconds(run)
    )
    device = trainer.base.device
    return Estimate(
        seconds=time.monotonic() - began + remaining,
        peak_bytes=_processes_per_memory(trainer) * peak_bytes(device) + _bytes_at_the_end(trainer),
        memory_bytes=memory_bytes(device),
        file_bytes=outputs.file_bytes(run),
    )


@contextmanager
def dry_run(trainer: Trainer) -> Iterator[None]:
    """Undo the steps made inside: weights, EMA weights, moments, gradient scale, the global random state.

    What running out of memory has changed stays: the run would find the same limit.
    """
    weights = {name: p.detach().clone() for name, p in trainer.parameters.items()}
    ema_weights = {name: p.clone() for name, p in trainer.ema_weights.items()}
    optimizer, scaler = copy.deepcopy(trainer.optimizer.state_dict()), trainer.scaler.state_dict()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            trainer.optimizer.zero_grad(set_to_none=True)
            trainer.adapters.load(weights)
            for name, value in ema_weights.items():
                trainer.ema_weights[name].copy_(value)
            trainer.optimizer.load_state_dict(optimizer)
            if trainer.scaler.is_enabled():
                trainer.scaler.load_state_dict(scaler)


def _step_seconds(trainer: Trainer, emit: Emit) -> float:
    """Mean seconds of a step over an epoch: measured on the largest batch, and where batches differ on the smallest too."""
    shapes, t = [item.shape for item in trainer.items], trainer.settings.train
    sampler = BatchSampler(shapes, t.batch_size, t.seed)
    work = {k: sum(prod(shapes[i][1:]) for i in sampler.batch(k)) for k in range(sampler.batches_per_epoch)}
    largest, smallest = max(work, key=lambda k: work[k]), min(work, key=lambda k: work[k])
    high = _time_batch(trainer, emit, sampler.batch(largest))
    if work[largest] == work[smallest]:
        return high
    # A step takes some time whatever it shows, and some for each pixel: two points give both.
    low = min(high, _time_batch(trainer, emit, sampler.batch(smallest)))
    share = (statistics.mean(work.values()) - work[smallest]) / (work[largest] - work[smallest])
    return low + share * (high - low)


def _time_batch(trainer: Trainer, emit: Emit, batch: list[int]) -> float:
    """Median seconds of a step after the first, which warms up caches and allocators."""
    seconds: list[float] = []
    batches = [batch] * trainer.settings.train.gradient_accumulation
    while trainer.world.broadcast(
        len(seconds) < MIN_TIMED_STEPS or (sum(seconds) < MIN_TIMED_SECONDS and len(seconds) < MAX_TIMED_STEPS)
    ):
        began = time.monotonic()
        update(trainer, gradient(trainer, emit, 0, batches))
        seconds.append(_now(trainer.base.device) - began)
    return statistics.median(seconds[1:])


def _drawing_seconds(run: Run) -> tuple[float, float]:
    """Of one denoising step at the size of the samples, and of the rest of a picture."""
    ends, device = list[float](), run.trainer.base.device
    request = DrawRequest("", steps=2, guidance=run.settings.sample.guidance)
    with eval_mode(run.trainer):
        run.renderer.draw(request, lambda done, total: ends.append(_now(device)))
    return (ends[-1] - ends[0]) / (len(ends) - 1), _now(device) - ends[-1]


def _now(device: torch.device) -> float:
    """The monotonic clock once the GPU has done what it was given: without waiting, only the launching of kernels is timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


def _certificate_seconds(run: Run) -> float:
    """Of one of the certificate's pictures."""
    with eval_mode(run.trainer):
        began = time.monotonic()
        run.renderer.latent(PROBE, min(run.trainer.base.resolution, MAX_SIDE))
        return time.monotonic() - began


def _processes_per_memory(trainer: Trainer) -> int:
    """How many processes share one memory: all of them on a CPU."""
    return 1 if trainer.base.device.type == "cuda" else trainer.world.size


def _bytes_at_the_end(trainer: Trainer) -> int:
    """What the end of a run takes on top: the certificate's copies of the adapters, and the code that reads files back.

    Measured on five kinds of settings (bench/preflight.py): 14 to 82 MB.
    """
    copies = 4 * 4 * trainer.adapters.parameter_count()
    return copies if trainer.base.device.type == "cuda" else copies + READER_BYTES


def peak_bytes(device: torch.device) -> int:
    """The most that this process has held so far, in bytes: of the GPU's memory, else of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_bytes(device: torch.device) -> int:
    """What this process can have: of a GPU what is free and what it holds already, since others share it; else the machine's."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
