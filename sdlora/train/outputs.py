"""What a run writes on its way: checkpoints, judgements, samples and states."""

from __future__ import annotations

import io
import os
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

from PIL import Image

from sdlora.config import values_of
from sdlora.core.errors import MIN_FREE_BYTES, disk_full, is_disk_full
from sdlora.core.events import Judged, Phase, Sampled, Saved, Warned
from sdlora.core.files import write_bytes
from sdlora.lora_files import kohya
from sdlora.lora_files.metadata import RunMetadata
from sdlora.render.renderer import DrawRequest
from sdlora.train import resume
from sdlora.train.setup import Run, prompts, resolution
from sdlora.train.trainer import eval_mode

SAMPLE_STRENGTHS = (0.0, 0.5, 1.0)
CHECKPOINTS_PER_RUN, SAMPLES_PER_RUN = 10, 5  # over a run whose settings name no interval


def after_step(run: Run, step: int) -> None:
    """Checkpoint, sample and state, in this order: a state counts only when what it claims is on disk."""
    t = run.settings.train
    if is_due(step, run.steps, t.save_every, CHECKPOINTS_PER_RUN):
        checkpoint(run, step)
        _evaluate(run, step)
    if is_due(step, run.steps, t.sample_every, SAMPLES_PER_RUN):
        sample(run, step)
        run.emit(Phase("training"))
    if step == run.steps:
        save_state(run)
    elif step % t.state_every == 0 and run.state_writer.is_due():
        if run.state_writer.background:
            _save_state_in_background(run)
        else:
            save_state(run)


def catch_up(run: Run) -> None:
    """Before the first step of this process: samples of the base, or what was due at a state saved in a hurry."""
    step = run.trainer.step
    if step == 0:
        sample(run, 0)
    elif is_due(step, run.steps, run.settings.train.save_every, CHECKPOINTS_PER_RUN):
        checkpoint(run, step)
        _evaluate(run, step)


def is_due(step: int, steps: int, every: int, times: int) -> bool:
    """Every `every` steps (0: `times` over the run of `steps`), and at the end."""
    return step % _interval(steps, every, times) == 0 or step == steps


def times_due(steps: int, every: int, times: int) -> int:
    """How often `is_due` holds in a whole run."""
    return -(-steps // _interval(steps, every, times))


def _interval(steps: int, every: int, times: int) -> int:
    return every or -(-steps // times)


def checkpoint(run: Run, step: int) -> Path:
    file = _write(run, _run_metadata(run, step))
    run.emit(Saved(step, str(file.relative_to(run.folders.root))))
    return file


def write_final(run: Run, step: int, strength: float) -> Path:
    """Write the chosen checkpoint again, with what is known only now: the recommended strength and a thumbnail."""
    return _write(run, replace(_run_metadata(run, step), strength=strength, thumbnail=_thumbnail(run, step)))


def _run_metadata(run: Run, step: int) -> RunMetadata:
    request, base = run.request, run.trainer.base
    return RunMetadata(
        name=request.name,
        family=base.family.metadata,
        prediction=base.prediction,
        zero_snr=base.zero_snr,
        base_name=Path(request.base.name).name,
        resolution=resolution(run.settings, base),
        created=request.created,
        settings=values_of(run.settings),
        captions=[p.caption for p in request.pictures],
        step=step,
        buckets=Counter(item.size for item in run.trainer.items),
    )


def _thumbnail(run: Run, step: int, side: int = 96) -> bytes:
    """A small JPEG of the newest sample up to this step at full strength; empty where there is none."""
    names = sorted(run.folders.samples.glob("step-*-0-100.png"))
    found = [p for p in names if int(p.name.split("-")[1]) <= step]
    if not found:
        return b""
    buffer = io.BytesIO()
    with Image.open(found[-1]) as picture:
        small = picture.convert("RGB")
    small.thumbnail((side, side))
    small.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _write(run: Run, about: RunMetadata) -> Path:
    base = run.trainer.base
    file = run.folders.checkpoints / f"step-{about.step:06d}.safetensors"
    try:
        with eval_mode(run.trainer):
            kohya.write(file, run.trainer.adapters, base.family.name, about, run.settings.export.dtype)
    except OSError as error:
        raise _disk_full_error(error, file.parent) from error
    return file


def file_bytes(run: Run) -> int:
    """Size of this run's files: of one made now, which is not kept."""
    base, dtype = run.trainer.base, run.settings.export.dtype
    return len(kohya.to_bytes(run.trainer.adapters, base.family.name, _run_metadata(run, run.steps), dtype))


def _evaluate(run: Run, step: int) -> None:
    if run.evaluator:
        run.evaluations[step] = j = run.evaluator.evaluate(run.trainer)
        run.emit(Judged(step, j.loss, j.base_loss, j.noise))


def sample(run: Run, step: int) -> None:
    """The sample pictures of this step: strength 0 once at step 0, the others each time. A full disk costs only pictures."""
    wanted = run.settings.sample
    if not wanted.draw:
        return
    strengths = (0.0,) if step == 0 else SAMPLE_STRENGTHS[1:]
    run.folders.samples.mkdir(parents=True, exist_ok=True)
    run.emit(Phase("sampling"))
    for number, prompt in enumerate(prompts(run.request)):
        for strength in strengths:
            drawing = DrawRequest(
                prompt, seed=run.settings.train.seed + number, steps=wanted.steps, guidance=wanted.guidance
            )
            file = run.folders.samples / f"step-{step:06d}-{number}-{round(strength * 100):03d}.png"
            with eval_mode(run.trainer, strength):
                picture = run.renderer.draw(drawing)
            try:
                _save_png(file, picture)
            except OSError as error:
                _warn_once(
                    run,
                    "samples",
                    f"Sample pictures cannot be saved: {error}",
                    f"サンプル画像を保存できません: {error}",
                )
                return
            run.emit(Sampled(step, prompt, strength, str(file.relative_to(run.folders.root))))


def _save_png(file: Path, picture: Image.Image) -> None:
    """Whole or not at all: the chosen file's thumbnail is made of it."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    write_bytes(file, buffer.getvalue())


def _warn_once(run: Run, code: str, en: str, ja: str) -> None:
    if code not in run.warned:
        run.warned.add(code)
        run.emit(Warned(code, en, ja))


def save_state(run: Run) -> None:
    """Write what resuming needs, as of the last whole step. May be called from another thread than the loop's.

    Raises:
        DiskFull: with what is needed. Diverged: weights are not finite any more.
    """
    with run.trainer.weights_lock:
        state = _capture(run)
        run.state_writer.write(lambda: _commit(run, state))


def _save_state_in_background(run: Run) -> None:
    """As `save_state`, but training goes on while a copy is written."""
    with run.trainer.weights_lock:
        state = resume.to_cpu(_capture(run))
    run.state_writer.start(lambda: _commit(run, state))


def _capture(run: Run) -> resume.State:
    captured = resume.capture(run.trainer)
    resume.require_finite(captured)
    evaluations = {str(k): asdict(e) for k, e in run.evaluations.items() if k <= captured.step}
    about = {"judged": evaluations, "versions": run.request.versions, "origin": run.provenance}
    return replace(captured, facts={**captured.facts, **about})


def _commit(run: Run, state: resume.State) -> None:
    try:
        resume.save(run.folders.state, state)
    except OSError as error:
        size = sum(t.numel() * t.element_size() for t in state.tensors.values())
        raise _disk_full_error(error, run.folders.state, 2 * size) from error


def _disk_full_error(error: OSError, folder: Path, needed: int = 0) -> Exception:
    """A full disk as a sentence that says how many bytes are needed; any other fault as it is."""
    if not is_disk_full(error):
        return error
    room = os.statvfs(folder if folder.exists() else folder.parent)
    return disk_full(max(MIN_FREE_BYTES, needed), room.f_bavail * room.f_frsize)
