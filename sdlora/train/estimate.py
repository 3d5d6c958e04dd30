"""The forecast of a run, measured: real steps on its largest batch and one drawing, then everything is put back as it was.

Nothing here is guessed from sizes: a step, a denoising step, a decode, a judgement are timed on this machine, with these
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

from sdlora.core.events import Estimate
from sdlora.render.renderer import DrawRequest
from sdlora.render.verify import MAX_SIDE, PROBE
from sdlora.train import outputs
from sdlora.train.evaluate import STRENGTHS
from sdlora.train.loop import update, whole_gradient
from sdlora.train.setup import Run, prompts
from sdlora.train.trainer import Trainer, eval_mode

MIN_STEPS = 20  # steps of a run from which on a forecast is worth what measuring it costs
MIN_TIMED_STEPS = 2  # on the largest batch; more while they take less than SECONDS together
MIN_TIMED_SECONDS, MAX_TIMED_STEPS = 1.0, 8
READERS = 30_000_000  # bytes of main memory


def estimate(run: Run, began: float) -> Estimate:
    """What the whole run takes from `began` (of the monotonic clock) to its end. Leaves no trace in the run.

    Raises:
        OutOfMemory: the largest batch does not fit, not even in pieces with gradient checkpointing.
    """
    with dry_run(run.trainer):
        step = _step_seconds(run)
    denoising, decoding = _drawing_seconds(run) if run.request.settings.sample.draw else (0.0, 0.0)
    t, sample = run.request.settings.train, run.request.settings.sample
    judgements = (
        outputs.times_due(run.steps, t.save_every, outputs.CHECKPOINTS_PER_RUN) + len(STRENGTHS) if run.evaluator else 0
    )
    drawn = 1 + (len(outputs.SAMPLE_STRENGTHS) - 1) * outputs.times_due(
        run.steps, t.sample_every, outputs.SAMPLES_PER_RUN
    )
    evaluations = run.renderer.evaluations(sample.steps)
    ahead = (
        run.steps * step
        + run.trainer.pictures.latents.left()
        + len(prompts(run.request)) * drawn * (evaluations * denoising + decoding)
        + judgements * run.seconds["judging"]
        + 1.3 * run.seconds["injecting"]  # the certificate injects once more, through diffusers' loader
        + 3 * _proof_seconds(run)
    )
    return Estimate(
        seconds=time.monotonic() - began + ahead,
        peak_bytes=_beside(run) * peak_bytes(run.trainer.base.device) + _later_bytes(run),
        memory_bytes=memory_bytes(run.trainer.base.device),
        file_bytes=outputs.file_bytes(run),
    )


@contextmanager
def dry_run(trainer: Trainer) -> Iterator[None]:
    """Steps made inside leave nothing behind: weights, their average, moments, gradient scale, the global random state.

    What running out of memory has changed stays: the run would find the same limit.
    """
    weights = {name: p.detach().clone() for name, p in trainer.adapters.named_parameters().items()}
    average = {name: p.clone() for name, p in trainer.ema_weights.items()}
    optimizer, scaler = copy.deepcopy(trainer.optimizer.state_dict()), trainer.scaler.state_dict()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            trainer.optimizer.zero_grad(set_to_none=True)
            trainer.adapters.load(weights)
            for name, value in average.items():
                trainer.ema_weights[name].copy_(value)
            trainer.optimizer.load_state_dict(optimizer)
            if trainer.scaler.is_enabled():
                trainer.scaler.load_state_dict(scaler)


def _step_seconds(run: Run) -> float:
    """Mean seconds of a step over an epoch: measured on the largest batch, and where batches differ on the smallest too."""
    order, shapes = run.trainer.sampler, run.trainer.pictures.latents.shapes
    work = {k: sum(prod(shapes[i][1:]) for i in order.batch(k)) for k in range(order.batches_per_epoch)}
    largest, smallest = max(work, key=lambda k: work[k]), min(work, key=lambda k: work[k])
    high = _timed(run, order.batch(largest))
    if work[largest] == work[smallest]:
        return high
    # A step takes some time whatever it shows, and some for each pixel: two points give both.
    low = min(high, _timed(run, order.batch(smallest)))
    share = (statistics.mean(work.values()) - work[smallest]) / (work[largest] - work[smallest])
    return low + share * (high - low)


def _timed(run: Run, pictures: list[int]) -> float:
    """Median seconds of a step after the first, which warms up caches and allocators."""
    taken: list[float] = []
    while run.trainer.world.broadcast(
        len(taken) < MIN_TIMED_STEPS or (sum(taken) < MIN_TIMED_SECONDS and len(taken) < MAX_TIMED_STEPS)
    ):
        began = time.monotonic()
        _step(run, pictures)
        taken.append(time.monotonic() - began)
    return statistics.median(taken[1:])


def _step(run: Run, pictures: list[int]) -> None:
    trainer = run.trainer
    update(trainer, whole_gradient(trainer, run.emit, 0, lambda number: pictures))


def _drawing_seconds(run: Run) -> tuple[float, float]:
    """Of one denoising step at the size of the samples, and of the rest of a picture."""
    ends: list[float] = []
    picture = DrawRequest("", steps=2, guidance=run.request.settings.sample.guidance)
    with eval_mode(run.trainer):
        run.renderer.draw(picture, lambda done, total: ends.append(time.monotonic()))
    return (ends[-1] - ends[0]) / (len(ends) - 1), time.monotonic() - ends[-1]


def _proof_seconds(run: Run) -> float:
    """Of one of the certificate's pictures."""
    with eval_mode(run.trainer):
        began = time.monotonic()
        run.renderer.latent(PROBE, min(run.trainer.base.resolution, MAX_SIDE))
        return time.monotonic() - began


def _beside(run: Run) -> int:
    """How many processes share one memory: all of them on a CPU."""
    return 1 if run.trainer.base.device.type == "cuda" else run.trainer.world.size


def _later_bytes(run: Run) -> int:
    """What the end of a run takes on top: the certificate's copies of the adapters, and the code that reads files back.

    Measured on five kinds of settings (bench/preflight.py): 14 to 82 MB.
    """
    copies = 4 * 4 * run.trainer.adapters.parameter_count()
    return copies if run.trainer.base.device.type == "cuda" else copies + READERS


def peak_bytes(device: torch.device) -> int:
    """The most that this process has held so far: of the GPU's memory, else of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
