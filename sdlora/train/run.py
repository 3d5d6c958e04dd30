"""One run from pictures to LoRA files: set up, estimate, train, choose a checkpoint, verify_file. Takes folders and settings, knows no job."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from sdlora.core.environment import gpu_count
from sdlora.core.events import Emit, Phase, Started, Warned
from sdlora.core.files import sha256_of
from sdlora.core.text import Text
from sdlora.lora_files import kohya
from sdlora.render.verify import verify_file
from sdlora.train import resume
from sdlora.train.distributed import SINGLE_PROCESS, World
from sdlora.train.estimate import MIN_STEPS, estimate
from sdlora.train.evaluate import Evaluation, best_step
from sdlora.train.loop import train
from sdlora.train.outputs import after_step, catch_up, checkpoint, save_state, write_final
from sdlora.train.setup import Folders, Request, Run, encode, load, prepare


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
    began: float = field(default_factory=time.monotonic)  # what the estimate counts from


def run(request: Request, folders: Folders, emit: Emit, control: Control, world: World = SINGLE_PROCESS) -> Result:
    """Train from the last state (or from 0) to the end or until told to stop.

    Of several processes only the main one writes, and decides when to stop.

    Raises:
        BadInput, BaseUnusable, DeviceLost, DiskFull, Diverged, OutOfMemory: see `sdlora.core.errors`.
    """
    emit(Phase("loading"))
    with world.main_process_first():
        state = resume.newest(folders.state)
        run = _set_up(request, folders, emit, world, state)

    def should_stop() -> bool:
        return world.broadcast(control.should_stop())

    if not state and run.steps >= MIN_STEPS and not should_stop():
        emit(Phase("measuring"))
        emit(estimate(run, control.began))
    if not world.is_main_process:
        train(run.trainer, emit, should_stop, lambda step: None)
        return Result(run.trainer.step == run.steps, run.trainer.step, None, "", run.trainer.step, 1.0)
    emit(_started(run))
    catch_up(run)
    emit(Phase("training"))
    control.on_ready(lambda: save_state(run))
    try:
        train(run.trainer, emit, should_stop, lambda step: after_step(run, step))
    finally:
        run.state_writer.wait()
    run.state_writer.raise_error()
    return _finish(run) if run.trainer.step == run.steps else _stop(run, control.keep())


def _set_up(request: Request, folders: Folders, emit: Emit, world: World, state: resume.State | None) -> Run:
    """All parts of the run, as the saved state left them."""
    if state:
        resume.restore_threads(state)
    base = load(request, world.device(), emit)
    if base.device.type == "cpu":
        _warn_of_unused_gpu(emit)
    run = prepare(request, base, encode(request, base, folders, emit), folders, emit, world)
    run.provenance = resume.provenance(request, base.path)
    if state:
        resume.check_provenance(state, run.provenance, request.versions, emit)
        resume.restore(run.trainer, state)
        run.evaluations.update({int(step): Evaluation(**e) for step, e in state.facts["judged"].items()})
    return run


def _warn_of_unused_gpu(emit: Emit) -> None:
    """An old driver hides the GPU from torch without an error, and a run of minutes takes days. Hidden on purpose, it is no fault."""
    if not gpu_count() or "CUDA_VISIBLE_DEVICES" in os.environ:
        return
    reason = "-"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).strip().splitlines() or ["-"])[0][:200]
    emit(
        Warned(
            "device",
            f"This machine has an NVIDIA GPU, but PyTorch cannot use it ({reason}). This runs on the processor, many times slower. Update the driver, or install a PyTorch that is built for this GPU.",
            f"このマシンには NVIDIA GPU がありますが、PyTorch から使えません({reason})。CPU で実行するため何倍も遅くなります。ドライバーを更新するか、この GPU に対応した PyTorch を入れてください。",
        )
    )


def _stop(run: Run, keep: bool) -> Result:
    step = run.trainer.step
    save_state(run)
    file = checkpoint(run, step) if step and keep else None
    return Result(False, step, file, sha256_of(file) if file else "", step, 1.0)


def _started(run: Run) -> Started:
    trainer, base = run.trainer, run.trainer.base
    return Started(
        step=trainer.step,
        steps=run.steps,
        pictures=len(trainer.items),
        held_out=len(run.evaluator.samples) if run.evaluator else 0,
        trained_parameters=trainer.adapters.parameter_count(),
        full_parameters=run.full_parameters,
        device=str(base.device) if trainer.world.size == 1 else f"{base.device.type} × {trainer.world.size}",
        precision=str(base.dtype).removeprefix("torch."),
    )


def _finish(run: Run) -> Result:
    """Choose the checkpoint, and the strength for it."""
    run.emit(Phase("judging"))
    best = best_step(run.evaluations) if run.evaluations else run.steps
    _load_checkpoint(run, best)
    strength = run.evaluator.best_strength(run.trainer) if run.evaluator else 1.0
    file = write_final(run, best, strength)
    run.emit(Phase("exporting"))
    with run.trainer.weights_lock:
        run.trainer.optimizer.state.clear()  # twice the adapters' memory, and nobody needs it any more
    certificate = verify_file(file, run.trainer.base, run.trainer.adapters, run.trainer.text_cache, run.trainer.warn)
    return Result(True, run.steps, file, sha256_of(file), best, strength, certificate.text)


def _load_checkpoint(run: Run, step: int) -> None:
    """Put a written checkpoint's weights back into the adapters, so that what is evaluated is what is shipped."""
    trainer = run.trainer
    trainer.ema_weights.clear()
    file = run.folders.checkpoints / f"step-{step:06d}.safetensors"
    trainer.adapters.load(kohya.read_parameters(file, trainer.adapters, trainer.base.family.name))
