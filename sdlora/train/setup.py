"""Everything a run needs before its first step: base, training items, adapters, evaluator and renderer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import nn

from sdlora.adapters.inject import inject
from sdlora.adapters.spec import AdapterConfig
from sdlora.config import Config
from sdlora.core.errors import BadInput, BaseUnusable
from sdlora.core.events import Emit, Phase, memory_warning
from sdlora.core.oom_retry import once, retry_on_oom
from sdlora.core.seeding import key
from sdlora.core.text import Text
from sdlora.data.buckets import training_size, whole_units
from sdlora.data.captions import without_trigger
from sdlora.data.holdout import split
from sdlora.families.base_model import Base
from sdlora.families.conditioning import Conditioning
from sdlora.families.spec import Part, is_text_encoder
from sdlora.lora_files import kohya
from sdlora.models.fingerprint import fingerprint
from sdlora.models.hub import BaseRef
from sdlora.models.load import load_base
from sdlora.models.packed import pack
from sdlora.models.prompt import encode_unique
from sdlora.render.renderer import Renderer
from sdlora.train.batches import tag_orders
from sdlora.train.distributed import SINGLE_PROCESS, World
from sdlora.train.evaluate import Evaluation, Evaluator
from sdlora.train.latents import CaptionedImage, Encoder, Latent, LatentCache, TrainingItem
from sdlora.train.state_writer import StateWriter
from sdlora.train.trainer import Trainer

MAX_GPU_TEXTS = 300  # whose embeddings are kept on the GPU: 0.1 GB for SDXL; more stay in the machine's memory
MAX_CACHED_TEXTS = 5_000  # whose embeddings are kept: 1.2 GB for SD 1.x, 1.6 GB for SDXL in bf16
LOADED_AGAIN = Text(
    "Memory ran out while the base was loaded: it was loaded again after unused memory was freed.",
    "基礎モデルの読み込み中にメモリが不足したため、未使用のメモリを解放して読み込み直しました。",
)
TEXTS_ON_CPU = Text(
    "Memory ran out while captions were encoded: they were encoded on the processor, which takes longer.",
    "キャプションのエンコード中にメモリが不足したため、CPU でエンコードしました。時間が延びます。",
)
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


@dataclass(frozen=True)
class TrainingSet:
    """All pictures of a request, held-out ones included, and how long the latents not made yet will take."""

    items: Sequence[TrainingItem]
    seconds_left: Callable[[], float] = lambda: 0.0


@dataclass
class Run:
    """The parts of a run once they are ready."""

    request: Request
    folders: Folders
    trainer: Trainer
    evaluator: Evaluator | None  # None where nothing is held out
    renderer: Renderer
    emit: Emit
    seconds: dict[str, float]  # what `injecting` and one `judging` took
    full_parameters: int  # of the parts that learn, without adapters
    encoding_seconds_left: Callable[[], float]
    state_writer: StateWriter
    evaluations: dict[int, Evaluation] = field(default_factory=dict)  # by step
    warned: set[str] = field(default_factory=set)
    provenance: dict[str, str] = field(default_factory=dict)  # see `resume.provenance`

    @property
    def settings(self) -> Config:
        return self.request.settings

    @property
    def steps(self) -> int:
        return self.settings.train.steps


def load(request: Request, device: torch.device | None = None, emit: Emit = lambda event: None) -> Base:
    """The base as it was when the job was made. Without a device, the best one is picked.

    Raises:
        BaseUnusable: the base has changed since, or cannot be loaded.
    """
    folder, t = request.base.path, request.settings.train
    if folder and request.base_fingerprint and fingerprint(folder) != request.base_fingerprint:
        raise BaseUnusable(
            Text(
                f"Blocked: the base model {request.base.name} has changed since this job was made. Put the old one back, or start a new job.",
                f"ブロック: 基礎モデル {request.base.name} がジョブ作成後に変更されています。元に戻すか、新しいジョブを始めてください。",
            )
        )
    read = partial(
        load_base, request.base, t.precision, device, prediction=request.settings.model.prediction, staged=True
    )
    base = retry_on_oom(read, once(LOADED_AGAIN), memory_warning(emit))
    if t.gradient_checkpointing:
        base.denoiser.enable_gradient_checkpointing()
    return base


def encode(request: Request, base: Base, folders: Folders, emit: Emit = lambda event: None) -> TrainingSet:
    """All pictures of the request, each in the size of its bucket. Latents are made when they are first needed.

    Raises:
        BadInput: masks are asked for, but no picture has one.
    """
    data, side, unit = request.settings.data, resolution(request.settings, base), base.size_unit
    if data.masks and not any(p.mask for p in request.pictures):
        raise BadInput(
            Text(
                "data.masks is on, but no picture of this set has a mask. Add pictures with transparent parts or a folder `masks` beside them, or turn it off.",
                "data.masks がオンですが、マスクのある画像がありません。透明部分のある画像か `masks` フォルダーを追加するか、オフにしてください。",
            )
        )
    cache = LatentCache(folders.cache / "latents", fingerprint(base.path, "vae"))
    encoder = Encoder(base.vae, cache, data.flip, data.masks, recolour=data.recolour > 0, warn=memory_warning(emit))
    items = [
        encoder.item(
            picture,
            training_size(picture.width, picture.height, side, unit, data.buckets),
            without_trigger(picture.caption, data.trigger, data.class_prompt),
        )
        for picture in request.pictures
    ]
    return TrainingSet(items, lambda: encoder.seconds_left(items))


def resolution(settings: Config, base: Base) -> int:
    """Pixels of a side: what the setting or the base says, in whole multiples of what the UNet can halve."""
    return whole_units(settings.train.resolution or base.resolution, base.size_unit)


def prepare(
    request: Request,
    base: Base,
    training_set: TrainingSet,
    folders: Folders,
    emit: Emit,
    world: World = SINGLE_PROCESS,
) -> Run:
    """Put adapters into the base, split off what is held out, and measure the base on it."""
    settings, items = request.settings, training_set.items
    text_cache = (
        _encode_texts(request, base, items, memory_warning(emit)) if settings.train.text_encoder_lr == 0 else None
    )
    retry_on_oom(lambda: base.denoiser.to(base.device), once(LOADED_AGAIN), memory_warning(emit))  # see `load_base`
    learning: dict[Part, nn.Module] = {part: base.parts[part] for part in _learning_parts(settings, base)}
    full_parameters = sum(p.numel() for module in learning.values() for p in module.parameters())
    began = time.monotonic()
    adapters = inject(
        learning, base.family.lora, AdapterConfig(**settings.lora.model_dump()), key(settings.train.seed, "init")
    )
    if request.start:
        adapters.load(kohya.start_from(request.start, adapters, base.family.name))
    adapters.fuse(base.denoiser)
    if not settings.train.gradient_checkpointing:  # asked for where memory is scarcer than time
        pack(base.denoiser)
    seconds = {"injecting": time.monotonic() - began, "judging": 0.0}
    train_indexes, held_out = split(len(items), settings.data.held_out, settings.train.seed)
    trainer = Trainer(base, adapters, [items[i] for i in train_indexes], text_cache, settings, world)
    trainer.warn = memory_warning(emit)
    for module in learning.values():
        module.train()
    evaluator = None
    if held_out and world.is_main_process:
        latents = _encode_all([items[i] for i in held_out], emit)
        began = time.monotonic()
        evaluator = Evaluator.of(trainer, latents, [items[i].caption for i in held_out])
        seconds["judging"] = time.monotonic() - began
    renderer = Renderer(base, adapters, text_cache=text_cache or {}, warn=trainer.warn)
    left = training_set.seconds_left
    writer = StateWriter(background=base.device.type == "cuda")
    return Run(request, folders, trainer, evaluator, renderer, emit, seconds, full_parameters, left, writer)


def _learning_parts(settings: Config, base: Base) -> list[Part]:
    """Parts that get adapters: those with a learning rate."""
    t = settings.train
    return [part for part in base.family.parts if (t.text_encoder_lr if is_text_encoder(part) else t.unet_lr) > 0]


def _encode_texts(
    request: Request, base: Base, items: Sequence[TrainingItem], warn: Callable[[Text], None]
) -> dict[str, Conditioning] | None:
    """Every text of the run, encoded by frozen text encoders that are then freed: 1.6 GB of SDXL in bf16.

    None where there are more than `MAX_CACHED_TEXTS`, of 0.2 MB each for SD 1.x: those are encoded in the step that shows them.
    """
    texts = [form for item in items for form in (item.caption, *tag_orders(item.caption, request.settings))]
    texts += [*prompts(request), ""]
    texts += [item.prior_caption for item in items] if request.settings.train.prior_weight else []
    if len(set(texts)) > MAX_CACHED_TEXTS:
        return None
    kept_on = base.device if len(set(texts)) <= MAX_GPU_TEXTS else torch.device("cpu")
    text_cache = retry_on_oom(
        lambda: encode_unique(base, texts, kept_on), partial(_text_encoders_to_cpu, base, iter([TEXTS_ON_CPU])), warn
    )
    base.free_text_encoders()
    return text_cache


def _text_encoders_to_cpu(base: Base, texts: Iterator[Text]) -> Text | None:
    """They encode slower there, but in the machine's memory."""
    for part in base.family.text_encoders:
        base.parts[part].to("cpu")
    return next(texts, None)


def prompts(request: Request) -> list[str]:
    """The prompts of the sample pictures; none where none are drawn."""
    if not request.settings.sample.draw:
        return []
    written = [line.strip() for line in request.settings.sample.prompts.splitlines() if line.strip()]
    captions = dict.fromkeys(p.caption for p in request.pictures if p.caption)
    return written or list(captions)[:SAMPLE_PROMPTS] or [""]


def _encode_all(items: Sequence[TrainingItem], emit: Emit, seconds: float = 0.5) -> list[Latent]:
    """Their latents, with progress events: the first, the last, and between them at most one every `seconds`."""
    latents, last = list[Latent](), float("-inf")
    for done in range(len(items) + 1):
        if done == len(items) or time.monotonic() - last > seconds:
            last = time.monotonic()
            emit(Phase("caching", done, len(items)))
        if done < len(items):
            latents.append(items[done].latent())
    return latents
