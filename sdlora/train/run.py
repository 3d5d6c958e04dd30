"""One run from pictures to LoRA files: prepare, train, judge, save. Takes folders and settings, knows no job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from sdlora.events import Phase, Started
from sdlora.files import sha256_of
from sdlora.lora import kohya
from sdlora.lora.targets import Part
from sdlora.train import state
from sdlora.train.judge import Judgement, best_step
from sdlora.train.loop import Emit, restore, train
from sdlora.train.outputs import after_step, checkpoint, sample, save_state
from sdlora.train.prepare import Folders, Request, Run, encode, load, prepare


@dataclass(frozen=True)
class Result:
    """`step` updates are done; `file` is the chosen checkpoint, None where not one update was made."""

    finished: bool
    step: int
    file: Path | None
    sha256: str
    best_step: int
    recommended_strength: float


def run(
    request: Request, folders: Folders, emit: Emit, should_stop: Callable[[], bool], keep: Callable[[], bool]
) -> Result:
    """Train from the last state (or from 0) to the end or until `should_stop`. `keep()`: whether a stopped run leaves a checkpoint.

    Raises:
        BadInput, BaseUnusable, DiskFull, Diverged: see `sdlora.errors`.
    """
    emit(Phase("loading"))
    base = load(request)
    latents = encode(request, base, folders, emit)
    here = prepare(request, base, latents, folders, emit)

    start = _resume(here)
    emit(_started(here, start))
    if start == 0:
        sample(here, 0)
    step = train(here.trainer, start, emit, should_stop, lambda k: after_step(here, k))
    if step < here.steps:
        save_state(here, step)
        file = checkpoint(here, step) if step and keep() else None
        return Result(False, step, file, sha256_of(file) if file else "", step, 1.0)
    return _finish(here)


def _resume(here: Run) -> int:
    saved = state.newest(here.folders.state)
    if saved is None:
        return 0
    restore(here.trainer, saved)
    here.judged.update({int(step): Judgement(**j) for step, j in saved.facts["judged"].items()})
    return saved.step


def _started(here: Run, start: int) -> Started:
    base, trainer = here.trainer.base, here.trainer
    parts: dict[Part, nn.Module] = {"unet": base.unet, "text_encoder": base.text_encoder}
    trained = trainer.adapters.parameter_count()
    full = sum(p.numel() for part in trainer.adapters.parts for p in parts[part].parameters())
    return Started(
        step=start,
        steps=here.steps,
        pictures=len(trainer.pictures.latents),
        held_out=len(here.judge.latents) if here.judge else 0,
        trained_parameters=trained,
        full_parameters=full - trained,
        device=str(base.device),
        precision=str(base.dtype).removeprefix("torch."),
    )


def _finish(here: Run) -> Result:
    """Choose the checkpoint, and the strength for it."""
    here.emit(Phase("judging"))
    best = best_step(here.judged) if here.judged else here.steps
    strength = 1.0
    if here.judge:
        if best != here.steps:
            _load_checkpoint(here, best)
        strength = here.judge.best_strength(here.trainer)
    file = here.folders.checkpoints / f"step-{best:06d}.safetensors"
    return Result(True, here.steps, file, sha256_of(file), best, strength)


def _load_checkpoint(here: Run, step: int) -> None:
    """Put a written checkpoint's weights back into the adapters: what is judged is what is shipped."""
    path = here.folders.checkpoints / f"step-{step:06d}.safetensors"
    prefix = here.trainer.base.family.text_encoder_prefix
    here.trainer.adapters.load(kohya.read_into(path, here.trainer.adapters, prefix))
