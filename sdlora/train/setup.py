"""Everything a run needs before its first step: the base, latents, adapters, the judge and a renderer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from sdlora.adapters.inject import inject
from sdlora.adapters.spec import AdapterConfig, Part
from sdlora.config import Config
from sdlora.core.errors import BadInput, BaseUnusable
from sdlora.core.events import Emit, Phase
from sdlora.core.text import Text
from sdlora.data.buckets import bucket
from sdlora.data.captions import without_trigger
from sdlora.lora_files import kohya
from sdlora.models.bases import BaseRef, fingerprint
from sdlora.models.load import Base, load_base
from sdlora.models.packed import pack
from sdlora.models.prompt import Embedding, encode_unique
from sdlora.render.renderer import Renderer
from sdlora.train.captions import tag_orders
from sdlora.train.distributed import SINGLE_PROCESS, World
from sdlora.train.evaluate import Evaluation, Evaluator, split
from sdlora.train.latents import Cache, CaptionedImage, Encoder, Latent, Latents
from sdlora.train.rng import key
from sdlora.train.trainer import Trainer, TrainingSet

MAX_CACHED_TEXTS = 5_000  # whose embeddings are kept: 1.2 GB for SD 1.x, 1.6 GB for SDXL in bf16
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
    pictures: Sequence[CaptionedImage]
    versions: dict[str, str]  # of what decides the bytes: torch, diffusers, …
    start: Path | None = None  # a LoRA to begin with


@dataclass
class Run:
    """The parts of a run once they are ready."""

    request: Request
    folders: Folders
    trainer: Trainer
    evaluator: Evaluator | None
    renderer: Renderer
    emit: Emit
    seconds: dict[str, float]  # what `injecting` and one round of `judging` took
    full_parameters: int  # of the parts that learn, without adapters
    evaluations: dict[int, Evaluation] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)
    origin: dict[str, str] = field(default_factory=dict)  # see `train.origin`

    @property
    def steps(self) -> int:
        return self.request.settings.train.steps


def load(request: Request, device: torch.device | None = None) -> Base:
    """The base as it was when the job was made, or a refusal. Without a device, the best one is picked."""
    folder, t = request.base.path, request.settings.train
    if folder and request.base_fingerprint and fingerprint(folder) != request.base_fingerprint:
        raise BaseUnusable(
            Text(
                f"Blocked: the base model {request.base.name} has changed since this job was made. Put the old one back, or start a new job.",
                f"ブロック: 基礎モデル {request.base.name} がジョブ作成後に変更されています。元に戻すか、新しいジョブを始めてください。",
            )
        )
    base = load_base(request.base, t.precision, device, prediction=request.settings.model.prediction)
    if t.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
    return base


def encode(request: Request, base: Base, folders: Folders) -> Latents:
    """Latents of all pictures, each in the size of its bucket, made when they are first shown."""
    side, unit = resolution(request.settings, base), _unit(base)
    sizes = [
        bucket(p.width, p.height, side, unit) if request.settings.data.buckets else (side, side)
        for p in request.pictures
    ]
    if request.settings.data.masks:
        _check_masks(request)
    cache = Cache(folders.cache / "latents", fingerprint(base.path, "vae"))
    data = request.settings.data
    return Encoder(base.vae, request.pictures, sizes, cache, data.flip, data.masks, data.recolour > 0).latents()


def _check_masks(request: Request) -> None:
    if not any(p.mask for p in request.pictures):
        raise BadInput(
            Text(
                "data.masks is on, but no picture of this set has a mask. Add pictures with transparent parts or a folder `masks` beside them, or turn it off.",
                "data.masks がオンですが、マスクのある画像がありません。透明部分のある画像か `masks` フォルダーを追加するか、オフにしてください。",
            )
        )


def resolution(settings: Config, base: Base) -> int:
    """Pixels of a side: what the setting or the base says, in whole multiples of what the UNet can halve."""
    wanted, unit = settings.train.resolution or base.resolution, _unit(base)
    return max(unit, wanted // unit * unit)


def _unit(base: Base) -> int:
    """Pixels that one value of the UNet's smallest level stands for, along a side."""
    return base.factor * 2 ** (len(base.unet.config.block_out_channels) - 1)


def prepare(
    request: Request, base: Base, latents: Latents, folders: Folders, emit: Emit, world: World = SINGLE_PROCESS
) -> Run:
    settings = request.settings
    captions = [p.caption for p in request.pictures]
    texts = _texts(request, base) if settings.train.text_encoder_lr == 0 else None
    trained: dict[Part, nn.Module] = {part: base.parts[part] for part in _learning(settings, base)}
    full = sum(p.numel() for module in trained.values() for p in module.parameters())
    began = time.monotonic()
    adapters = inject(trained, AdapterConfig(**settings.lora.model_dump()), key(settings.train.seed, "init"))
    if request.start:
        adapters.load(kohya.start_from(request.start, adapters, base.family.name))
    if not settings.train.gradient_checkpointing:  # asked for where memory is scarcer than time
        pack(base.unet)
    seconds = {"injecting": time.monotonic() - began, "judging": 0.0}
    learn, held = split(len(latents), settings.data.held_out, settings.train.seed)
    plain = priors(request)
    shown = TrainingSet(latents.some(learn), [captions[i] for i in learn], [plain[i] for i in learn], texts)
    trainer = Trainer(base, adapters, shown, settings, world)
    for module in trained.values():
        module.train()
    evaluator = None
    if held and world.is_main_process:
        asked = _told(latents.some(held), emit)
        began = time.monotonic()
        evaluator = Evaluator.of(trainer, asked, [captions[i] for i in held])
        seconds["judging"] = time.monotonic() - began
    return Run(
        request, folders, trainer, evaluator, Renderer(base, adapters, text_cache=texts or {}), emit, seconds, full
    )


def _learning(settings: Config, base: Base) -> list[Part]:
    """Parts that get adapters: those with a learning rate."""
    t = settings.train
    return [part for part in base.family.parts if (t.unet_lr if part == "unet" else t.text_encoder_lr) > 0]


def _texts(request: Request, base: Base) -> dict[str, Embedding] | None:
    """Every text of the run, encoded by frozen text encoders that are then let go: 1.6 GB of SDXL in bf16.

    None where that would be more than `MAX_CACHED_TEXTS`: each takes 0.2 MB for SD 1.x, so they are encoded when they are shown.
    """
    captions = [shown for p in request.pictures for shown in (p.caption, *tag_orders(p.caption, request.settings))]
    wanted = [*captions, *prompts(request), ""]
    wanted += priors(request) if request.settings.train.prior_weight else []
    if len(set(wanted)) > MAX_CACHED_TEXTS:
        return None
    texts = encode_unique(base, wanted)
    base.free_text_encoders()
    return texts


def priors(request: Request) -> list[str]:
    """Each caption without the trigger word."""
    data = request.settings.data
    return [without_trigger(p.caption, data.trigger, data.class_prompt) for p in request.pictures]


def prompts(request: Request) -> list[str]:
    """What the samples show; nothing where none are drawn."""
    if not request.settings.sample.draw:
        return []
    written = [line.strip() for line in request.settings.sample.prompts.splitlines() if line.strip()]
    captions = dict.fromkeys(p.caption for p in request.pictures if p.caption)
    return written or list(captions)[:SAMPLE_PROMPTS] or [""]


def _told(latents: Latents, emit: Emit, seconds: float = 0.5) -> list[Latent]:
    """All of them, their progress as events: the first, the last, and a few in between however many there are."""
    found, last = list[Latent](), float("-inf")
    for done in range(len(latents) + 1):
        if done == len(latents) or time.monotonic() - last > seconds:
            last = time.monotonic()
            emit(Phase("caching", done, len(latents)))
        if done < len(latents):
            found.append(latents[done])
    return found
