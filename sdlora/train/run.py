"""One run from pictures to LoRA files: prepare, train, judge, save. Takes folders and settings, knows no job."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from torch import nn

from sdlora.config import Config, values_of
from sdlora.errors import BaseUnusable, DiskFull
from sdlora.events import Judged, Phase, Sampled, Saved, Started, Warned
from sdlora.files import sha256_of
from sdlora.lora import kohya
from sdlora.lora.inject import Shape, inject
from sdlora.lora.metadata import About
from sdlora.lora.targets import Part
from sdlora.models.bases import BaseRef, fingerprint
from sdlora.models.load import Base, load_base, pick_device, pick_dtype
from sdlora.models.prompt import encode_once
from sdlora.render import Picture as Drawing
from sdlora.render import Renderer
from sdlora.text import Text
from sdlora.train import state
from sdlora.train.judge import Judge, Judgement, best_step, split
from sdlora.train.latents import Latent, Picture, encode_pictures
from sdlora.train.loop import Emit, Trainer, TrainingSet, capture, evaluating, restore, train
from sdlora.train.randomness import key

SAMPLE_STRENGTHS = (0.0, 0.5, 1.0)
SAMPLE_PROMPTS = 2  # drawn where the settings name none


@dataclass(frozen=True)
class Folders:
    """Where a run writes; `root` is what event paths are relative to."""

    root: Path
    state: Path
    checkpoints: Path
    samples: Path
    cache: Path


@dataclass(frozen=True)
class Request:
    """What to train, on which pictures."""

    name: str
    created: float  # unix time; written into the files
    base: BaseRef
    base_fingerprint: str  # "" = not known yet
    settings: Config
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Result:
    """`step` updates are done; `file` is the chosen checkpoint, None where not one update was made."""

    finished: bool
    step: int
    file: Path | None
    sha256: str
    best_step: int
    recommended_strength: float


@dataclass
class Run:
    """The parts of a run once they are ready."""

    request: Request
    folders: Folders
    trainer: Trainer
    judge: Judge | None
    renderer: Renderer
    emit: Emit
    judged: dict[int, Judgement] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)

    @property
    def steps(self) -> int:
        return self.request.settings.train.steps


def run(
    request: Request, folders: Folders, emit: Emit, should_stop: Callable[[], bool], keep: Callable[[], bool]
) -> Result:
    """Train from the last state (or from 0) to the end or until `should_stop`. `keep()`: whether a stopped run leaves a checkpoint.

    Raises:
        BadInput, BaseUnusable, DiskFull, Diverged: see `sdlora.errors`.
    """
    emit(Phase("loading"))
    base = _load(request)
    latents = _encode(request, base, folders, emit)
    here = _prepare(request, base, latents, folders, emit)

    start = _resume(here)
    emit(_started(here, start))
    if start == 0:
        _sample(here, 0)
    step = train(here.trainer, start, emit, should_stop, lambda k: _after_step(here, k))
    if step < here.steps:
        _save_state(here, step)
        file = _checkpoint(here, step) if step and keep() else None
        return Result(False, step, file, sha256_of(file) if file else "", step, 1.0)
    return _finish(here)


def _load(request: Request) -> Base:
    """The base as it was when the job was made, or a refusal."""
    folder, t = request.base.folder, request.settings.train
    if folder and request.base_fingerprint and fingerprint(folder) != request.base_fingerprint:
        raise BaseUnusable(
            Text(
                f"Blocked: the base model {request.base.name} has changed since this job was made. Put the old one back, or start a new job.",
                f"ブロック: 基礎モデル {request.base.name} がジョブ作成後に変更されています。元に戻すか、新しいジョブを始めてください。",
            )
        )
    device = pick_device()
    base = load_base(request.base, pick_dtype(t.precision, device), device, request.settings.model.prediction)
    if t.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
    return base


def _encode(request: Request, base: Base, folders: Folders, emit: Emit) -> list[Latent]:
    size = _resolution(request.settings, base)
    return encode_pictures(
        base.vae,
        request.pictures,
        size,
        folders.cache / "latents",
        fingerprint(base.folder, "vae"),
        lambda done, total: emit(Phase("caching", done, total)),
    )


def _resolution(settings: Config, base: Base) -> int:
    """Pixels of a side: what the setting or the base says, in whole multiples of what the UNet can halve."""
    wanted = settings.train.resolution or base.resolution
    unit = base.factor * 2 ** (len(base.unet.config.block_out_channels) - 1)
    return max(unit, wanted // unit * unit)


def _prepare(request: Request, base: Base, latents: list[Latent], folders: Folders, emit: Emit) -> Run:
    settings = request.settings
    trained: dict[Part, nn.Module] = {}
    if settings.train.unet_lr > 0:
        trained["unet"] = base.unet
    if settings.train.text_encoder_lr > 0:
        trained["text_encoder"] = base.text_encoder
    captions = [p.caption for p in request.pictures]
    texts = None
    if "text_encoder" not in trained:
        texts = encode_once(base.tokenizer, base.text_encoder, [*captions, ""])
    lora = settings.lora
    adapters = inject(
        trained, Shape(lora.rank, lora.alpha, lora.targets, lora.dropout), key(settings.train.seed, "init")
    )
    learn, held = split(len(latents), settings.data.held_out, settings.train.seed)
    shown = TrainingSet([latents[i] for i in learn], [captions[i] for i in learn], texts)
    trainer = Trainer(base, adapters, shown, settings)
    for module in trained.values():
        module.train()
    judge = Judge.of(trainer, [latents[i] for i in held], [captions[i] for i in held]) if held else None
    return Run(request, folders, trainer, judge, Renderer(base, adapters), emit)


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


def _after_step(here: Run, step: int) -> None:
    """Checkpoint, sample and state, in this order: a state counts only when what it claims is on disk."""
    t = here.request.settings.train
    save, sample = t.save_every or max(1, -(-t.steps // 10)), t.sample_every or max(1, -(-t.steps // 5))
    last = step == t.steps
    if step % save == 0 or last:
        _checkpoint(here, step)
        _judge(here, step)
    if step % sample == 0 or last:
        _sample(here, step)
    if step % t.state_every == 0 or last:
        _save_state(here, step)


def _checkpoint(here: Run, step: int) -> Path:
    request, base = here.request, here.trainer.base
    about = About(
        name=request.name,
        architecture=base.family.architecture[base.prediction],
        base_version=base.family.base_version[base.prediction],
        v2=base.family.v2,
        prediction=base.prediction,
        base_name=Path(request.base.name).name,
        resolution=_resolution(request.settings, base),
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


def _sample(here: Run, step: int) -> None:
    """The sample pictures of this step: strength 0 once at step 0, the others each time. A full disk costs only pictures."""
    sample = here.request.settings.sample
    strengths = (0.0,) if step == 0 else SAMPLE_STRENGTHS[1:]
    here.folders.samples.mkdir(parents=True, exist_ok=True)
    for number, prompt in enumerate(_prompts(here)):
        for strength in strengths:
            drawing = Drawing(
                prompt, seed=here.request.settings.train.seed + number, steps=sample.steps, guidance=sample.guidance
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


def _save_state(here: Run, step: int) -> None:
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
