"""What a run writes on its way: checkpoints, judgements, samples and states."""

from __future__ import annotations

import errno
import os
from dataclasses import asdict, replace
from pathlib import Path

from sdlora.config import values_of
from sdlora.errors import DiskFull
from sdlora.events import Judged, Sampled, Saved, Warned
from sdlora.lora import kohya
from sdlora.lora.metadata import About
from sdlora.render import Picture
from sdlora.text import Text
from sdlora.train import state
from sdlora.train.loop import capture, evaluating
from sdlora.train.prepare import Run, resolution

SAMPLE_STRENGTHS = (0.0, 0.5, 1.0)
SAMPLE_PROMPTS = 2  # drawn where the settings name none


def after_step(here: Run, step: int) -> None:
    """Checkpoint, sample and state, in this order: a state counts only when what it claims is on disk."""
    t = here.request.settings.train
    save_every = t.save_every or -(-t.steps // 10)  # 0: ten checkpoints and five times samples over the run
    sample_every = t.sample_every or -(-t.steps // 5)
    last = step == t.steps
    if step % save_every == 0 or last:
        checkpoint(here, step)
        _judge(here, step)
    if step % sample_every == 0 or last:
        sample(here, step)
    if step % t.state_every == 0 or last:
        save_state(here, step)


def checkpoint(here: Run, step: int) -> Path:
    request, base = here.request, here.trainer.base
    about = About(
        name=request.name,
        architecture=base.family.architecture[base.prediction],
        base_version=base.family.base_version[base.prediction],
        v2=base.family.v2,
        prediction=base.prediction,
        base_name=Path(request.base.name).name,
        resolution=resolution(request.settings, base),
        created=request.created,
        settings=values_of(request.settings),
        captions=[p.caption for p in request.pictures],
        step=step,
    )
    file = here.folders.checkpoints / f"step-{step:06d}.safetensors"
    try:
        kohya.write(file, here.trainer.adapters, base.family.text_encoder_prefix, about, request.settings.export.dtype)
    except OSError as error:
        raise _full(error, file.parent) from error
    here.emit(Saved(step, str(file.relative_to(here.folders.root))))
    return file


def _judge(here: Run, step: int) -> None:
    if here.judge:
        here.judged[step] = j = here.judge.judge(here.trainer)
        here.emit(Judged(step, j.loss, j.base_loss, j.noise))


def sample(here: Run, step: int) -> None:
    """The sample pictures of this step: strength 0 once at step 0, the others each time. A full disk costs only pictures."""
    wanted = here.request.settings.sample
    strengths = (0.0,) if step == 0 else SAMPLE_STRENGTHS[1:]
    here.folders.samples.mkdir(parents=True, exist_ok=True)
    for number, prompt in enumerate(_prompts(here)):
        for strength in strengths:
            drawing = Picture(
                prompt, seed=here.request.settings.train.seed + number, steps=wanted.steps, guidance=wanted.guidance
            )
            file = here.folders.samples / f"step-{step:06d}-{number}-{round(strength * 100):03d}.png"
            with evaluating(here.trainer, strength):
                picture = here.renderer.draw(drawing)
            try:
                picture.save(file)
            except OSError as error:
                _warn_once(
                    here,
                    "samples",
                    f"Sample pictures cannot be saved: {error}",
                    f"サンプル画像を保存できません: {error}",
                )
                return
            here.emit(Sampled(step, prompt, strength, str(file.relative_to(here.folders.root))))


def _prompts(here: Run) -> list[str]:
    written = [line.strip() for line in here.request.settings.sample.prompts.splitlines() if line.strip()]
    captions = dict.fromkeys(p.caption for p in here.request.pictures if p.caption)
    return written or list(captions)[:SAMPLE_PROMPTS] or [""]


def _warn_once(here: Run, code: str, en: str, ja: str) -> None:
    if code not in here.warned:
        here.warned.add(code)
        here.emit(Warned(code, en, ja))


def save_state(here: Run, step: int) -> None:
    judged = {str(k): asdict(j) for k, j in here.judged.items()}
    captured = capture(here.trainer, step)
    try:
        state.save(here.folders.state, replace(captured, facts={**captured.facts, "judged": judged}))
    except OSError as error:
        raise _full(error, here.folders.state) from error


def _full(error: OSError, folder: Path) -> Exception:
    """A full disk as a sentence; any other fault as it is."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    room = os.statvfs(folder.parent if not folder.exists() else folder)
    free = room.f_bavail * room.f_frsize >> 20
    return DiskFull(
        Text(
            f"The disk is full ({free} MB free): the last saved state stands. Free some room and resume.",
            f"ディスクがいっぱいです(空き {free} MB)。最後に保存した状態は残っています。空きを作って再開してください。",
        )
    )
