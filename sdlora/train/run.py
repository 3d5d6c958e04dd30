"""One run from pictures to LoRA files: prepare, train, judge, save. Takes folders and settings, knows no job."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sdlora.core.events import Emit, Phase, Started
from sdlora.core.files import sha256_of
from sdlora.core.text import Text
from sdlora.lora_files import kohya
from sdlora.render.verify import certify
from sdlora.train import state
from sdlora.train.distributed import ALONE, Together
from sdlora.train.estimate import FEWEST, foresee
from sdlora.train.evaluate import Judgement, best_step
from sdlora.train.loop import train
from sdlora.train.origin import check, origin, use_threads_of
from sdlora.train.outputs import after_step, catch_up, checkpoint, finished, save_state
from sdlora.train.setup import Folders, Request, Run, encode, load, prepare
from sdlora.train.snapshot import restore


@dataclass(frozen=True)
class Result:
    """`step` updates are done; `file` is the chosen checkpoint, None where not one update was made."""

    finished: bool
    step: int
    file: Path | None
    sha256: str
    best_step: int
    recommended_strength: float
    certificate: Text | None = None  # what was checked of the finished file


@dataclass(frozen=True)
class Control:
    """How the outside steers a run."""

    should_stop: Callable[[], bool]  # asked before each step
    keep: Callable[[], bool]  # whether a stopped run leaves a checkpoint
    on_ready: Callable[[Callable[[], None]], None]  # is given a function that saves the state at once, from any thread
    began: float = field(default_factory=time.monotonic)  # what the forecast counts from


def run(request: Request, folders: Folders, emit: Emit, control: Control, together: Together = ALONE) -> Result:
    """Train from the last state (or from 0) to the end or until told to stop. Of several processes only process 0 writes,
    and decides when to stop.

    Raises:
        BadInput, BaseUnusable, DeviceLost, DiskFull, Diverged, OutOfMemory: see `sdlora.core.errors`.
    """
    emit(Phase("loading"))
    with together.first():
        saved = state.newest(folders.state)
        here = _prepared(request, folders, emit, together, saved)

    def should_stop() -> bool:
        return together.agreed(control.should_stop())

    if not saved and here.steps >= FEWEST and not should_stop():
        emit(Phase("measuring"))
        emit(foresee(here, control.began))
    if not together.chief:
        train(here.trainer, emit, should_stop, lambda step: None)
        return Result(here.trainer.done == here.steps, here.trainer.done, None, "", here.trainer.done, 1.0)
    emit(_started(here))
    catch_up(here)
    emit(Phase("training"))
    control.on_ready(lambda: save_state(here))
    train(here.trainer, emit, should_stop, lambda step: after_step(here, step))
    return _finish(here) if here.trainer.done == here.steps else _stopped(here, control.keep())


def _prepared(request: Request, folders: Folders, emit: Emit, together: Together, saved: state.State | None) -> Run:
    """All parts, as the saved state left them."""
    if saved:
        use_threads_of(saved)
    base = load(request, together.device())
    latents = encode(request, base, folders)
    here = prepare(request, base, latents, folders, emit, together)
    here.origin = origin(here)
    if saved:
        check(here, saved, emit)
        restore(here.trainer, saved)
        here.judged.update({int(step): Judgement(**j) for step, j in saved.facts["judged"].items()})
    return here


def _stopped(here: Run, keep: bool) -> Result:
    step = here.trainer.done
    save_state(here)
    file = checkpoint(here, step) if step and keep else None
    return Result(False, step, file, sha256_of(file) if file else "", step, 1.0)


def _started(here: Run) -> Started:
    base, trainer = here.trainer.base, here.trainer
    trained = trainer.adapters.parameter_count()
    return Started(
        step=trainer.done,
        steps=here.steps,
        pictures=len(trainer.pictures.latents),
        held_out=len(here.judge.samples) if here.judge else 0,
        trained_parameters=trained,
        full_parameters=here.full_parameters,
        device=str(base.device) if trainer.together.size == 1 else f"{base.device.type} × {trainer.together.size}",
        precision=str(base.dtype).removeprefix("torch."),
    )


def _finish(here: Run) -> Result:
    """Choose the checkpoint, and the strength for it."""
    here.emit(Phase("judging"))
    best = best_step(here.judged) if here.judged else here.steps
    _load_checkpoint(here, best)
    strength = here.judge.best_strength(here.trainer) if here.judge else 1.0
    file = finished(here, best, strength)
    here.emit(Phase("exporting"))
    certificate = certify(file, here.trainer.base, here.trainer.adapters, here.trainer.pictures.texts)
    return Result(True, here.steps, file, sha256_of(file), best, strength, certificate.text)


def _load_checkpoint(here: Run, step: int) -> None:
    """Put a written checkpoint's weights back into the adapters: what is judged is what is shipped."""
    path = here.folders.checkpoints / f"step-{step:06d}.safetensors"
    here.trainer.average.clear()
    here.trainer.adapters.load(kohya.read_into(path, here.trainer.adapters, here.trainer.base.family.name))
