"""The training loop: noise, predict, compare, update the adapters; nothing else is ever changed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from sdlora.config import Config, TrainSettings
from sdlora.errors import Diverged, Unmoved
from sdlora.events import Event, Stepped
from sdlora.lora.inject import Adapters
from sdlora.models.load import Base
from sdlora.models.prompt import Embedding, encode, stack
from sdlora.text import Text
from sdlora.train.captions import shown as in_order
from sdlora.train.latents import Latents, Sizes
from sdlora.train.loss import Diffusion, loss_per_sample
from sdlora.train.memory import out_of_memory
from sdlora.train.optimizer import groups_of, make
from sdlora.train.order import Order
from sdlora.train.randomness import Draw, draw, generator, key
from sdlora.train.recolour import CLEAR, in_colours_of
from sdlora.train.together import ALONE, Together


@dataclass(frozen=True)
class TrainingSet:
    """What the loop shows. `texts` holds each caption's embedding where the text encoders are frozen and those are not too many."""

    latents: Latents
    captions: list[str]
    priors: list[str]  # each caption without the trigger word: what prior preservation asks
    texts: dict[str, Embedding] | None


@dataclass(frozen=True)
class Sample:
    """One picture as a forward pass sees it."""

    x_0: Tensor  # (C, h, w)
    sizes: Sizes
    caption: str
    draw: Draw
    mask: Tensor | None = None  # (h, w)
    shown: Tensor | None = None  # (C, h, w): what is put under noise where that is not x_0, but x_0 in other colours
    hold: float = 0.0  # how far the base's own shapes are asked for, from not at all to 1


@dataclass
class Trainer:
    """A base with adapters inside, their optimizer, and what has happened to them: all that lives through a run."""

    base: Base
    adapters: Adapters
    pictures: TrainingSet
    settings: Config
    together: Together = ALONE
    done: int = 0  # updates made
    pieces: int = 1  # that each batch is cut into since memory ran out
    skipped: list[int] = field(default_factory=list)  # steps whose gradient was not finite
    aside: dict[str, Tensor] = field(default_factory=dict)  # the live weights while their average stands in for them
    changing: threading.Lock = field(default_factory=threading.Lock)  # held while weights change or a state is written

    def __post_init__(self) -> None:
        t = self.settings.train
        groups, self.rates = groups_of(self.adapters, t)
        self.fused = self.base.device.type != "mps"
        self.optimizer = make(groups, t, self.fused)
        self.diffusion = Diffusion.of(self.base.scheduler, self.base.prediction)
        self.scaler = torch.amp.GradScaler(self.base.device.type, enabled=self.base.dtype == torch.float16)
        self.order = Order(self.pictures.latents.shapes, t.batch_size, t.seed)
        matrices = self.adapters.matrices()
        self.average = {name: p.detach().clone() for name, p in matrices.items()} if t.ema else {}

    @property
    def modules(self) -> list[nn.Module]:
        return [*self.base.parts.values()]


@contextmanager
def evaluating(trainer: Trainer, strength: float = 1.0) -> Iterator[None]:
    """The weights that are saved (their average with EMA), no dropout, at `strength` inside; training as it was after."""
    with trainer.changing:
        trainer.aside = {name: p.detach().clone() for name, p in trainer.adapters.matrices().items() if trainer.average}
        trainer.adapters.load(trainer.average)
    try:
        with _at(trainer, strength):
            yield
    finally:
        with trainer.changing:
            trainer.adapters.load(trainer.aside)
            trainer.aside = {}


@contextmanager
def _at(trainer: Trainer, strength: float) -> Iterator[None]:
    """The adapters at `strength` inside, and nothing dropped; training as it was after."""
    modes = [module.training for module in trainer.modules]
    for module in trainer.modules:
        module.eval()
    trainer.adapters.set_strength(strength)
    try:
        yield
    finally:
        trainer.adapters.set_strength(1.0)
        for module, mode in zip(trainer.modules, modes, strict=True):
            module.train(mode)


Emit = Callable[[Event], None]
TRIED, STILL = 20, 1e-8  # steps after which adapters must have moved, and by how much


def train(trainer: Trainer, emit: Emit, should_stop: Callable[[], bool], after_step: Callable[[int], None]) -> None:
    """Run updates `trainer.done` … `steps`; `after_step(k)` is called when k updates are done.

    Raises:
        Diverged: loss or gradient was not finite 3 times in a row or in 10 of the last 100 steps.
        OutOfMemory: not even one picture at a time with gradient checkpointing fits.
        Unmoved: after `TRIED` updates of this process nothing has moved.
    """
    t, first = trainer.settings.train, trainer.done
    start = {name: p.detach().clone() for name, p in trainer.adapters.matrices().items()}
    while trainer.done < t.steps and not should_stop():
        step, began = trainer.done, time.monotonic()

        # Learning rate: a pure function of the step.
        for group, rate in zip(trainer.optimizer.param_groups, trainer.rates, strict=True):
            group["lr"] = rate * schedule(step, t)

        # Gradient over batch_size × gradient_accumulation samples, counted through the whole run.
        loss = whole_gradient(trainer, emit, step, trainer.order.batch)

        # Update, unless something is not finite. Nobody may save the weights in the middle of it.
        with trainer.changing:
            finite = update(trainer, loss)
            trainer.done = step + 1
        if not finite:
            trainer.skipped.append(step)
            _give_up_if_diverged(trainer.skipped, step)
        if step + 1 == first + TRIED:
            _refuse_unmoved(trainer, start)
            start.clear()
        if math.isfinite(loss):
            emit(Stepped(step + 1, loss, trainer.optimizer.param_groups[0]["lr"], time.monotonic() - began))
        after_step(step + 1)


def schedule(step: int, t: TrainSettings) -> float:
    """The factor on the learning rate for update number `step` (from 0): linear warm-up, then the chosen fall to 0."""
    if step < t.warmup_steps:
        return (step + 1) / t.warmup_steps
    progress = (step - t.warmup_steps) / max(1, t.steps - t.warmup_steps)
    if t.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1.0 if t.schedule == "constant" else 1 - progress


def whole_gradient(trainer: Trainer, emit: Emit, step: int, batch: Callable[[int], list[int]]) -> float:
    """The gradient of one update over all processes, with whatever memory there is; returns its loss."""
    loss = out_of_memory(trainer, emit, partial(gradient, trainer, step, batch))
    trainer.together.add_up(trainer.adapters.matrices().values())
    return loss


def gradient(trainer: Trainer, step: int, batch: Callable[[int], list[int]]) -> float:
    """Add up this process' share of one update's gradient, over batches by their global number; returns its part of the loss."""
    t, loss, position = trainer.settings.train, 0.0, 0
    for micro in range(t.gradient_accumulation):
        number = step * t.gradient_accumulation + micro
        pictures = batch(number)
        own = trainer.together.share(len(pictures), position)
        position += len(pictures)
        size = max(1, -(-len(own) // trainer.pieces))
        for first in range(0, len(own), size):
            rows = own[first : first + size]
            torch.manual_seed(key(t.seed, "dropout", step, micro, 0))
            shown = {number * t.batch_size + k: pictures[k] for k in rows}
            with trainer.adapters.shown.only(rows, len(pictures)):
                part = batch_losses(trainer, shown).sum() / (len(pictures) * t.gradient_accumulation)
                trainer.scaler.scale(part).backward()
            loss += part.item()
    return loss


def batch_losses(trainer: Trainer, shown: dict[int, int]) -> Tensor:
    """Weighted losses (B,) with gradients to the adapters; `shown` is global sample number -> picture."""
    data, t, pictures = trainer.settings.data, trainer.settings.train, trainer.pictures
    samples = []
    for sample, number in shown.items():
        latent = pictures.latents[number]
        d = draw(sample, tuple(latent.plain.shape), trainer.diffusion.timesteps, t.seed, t.noise_offset)
        x_0, mask, ways = latent.plain, latent.mask, latent.recoloured
        if data.flip and latent.flipped is not None and d.flip < 0.5:
            x_0, mask, ways = latent.flipped, None if mask is None else mask.flip(-1), latent.flipped_recoloured
        caption = (
            "" if d.caption < data.caption_dropout else in_order(pictures.captions[number], d.tags, trainer.settings)
        )
        other = in_other_colours(trainer, ways, d.timestep, generator(t.seed, "colours", sample))
        hold = data.recolour * trainer.diffusion.hides_shapes(d.timestep)
        samples.append(Sample(x_0, latent.sizes, caption, d, mask, other, hold))
    losses = sample_losses(trainer, samples)
    if t.prior_weight == 0:
        return losses
    plain = [replace(s, caption=pictures.priors[n], shown=None) for s, n in zip(samples, shown.values(), strict=True)]
    return losses + t.prior_weight * prior_losses(trainer, plain)


def in_other_colours(trainer: Trainer, ways: Tensor | None, timestep: int, g: torch.Generator) -> Tensor | None:
    """One of `ways` (K, C, h, w) for its share of the samples whose colours are still open, else None."""
    if ways is None or trainer.diffusion.snr(torch.tensor(timestep)) > CLEAR:
        return None
    chance, way = torch.rand(2, generator=g).tolist()
    return ways[int(way * len(ways))] if chance < trainer.settings.data.recolour else None


def sample_losses(trainer: Trainer, samples: list[Sample]) -> Tensor:
    """Loss of each sample (B,), weighted by noise level; all of one shape."""
    x_t, target, t, weight = _noised(trainer, samples)
    target = _with_shapes_held(trainer, x_t, target, t, samples)
    return loss_per_sample(_predict(trainer, x_t, t, samples), target, _mask(samples, target)) * weight


def _with_shapes_held(trainer: Trainer, x_t: Tensor, target: Tensor, t: Tensor, samples: list[Sample]) -> Tensor:
    """The target (B, C, h, w) drawn, by each sample's `hold`, towards what the base itself makes of x_t, in the picture's colours."""
    held = [row for row, s in enumerate(samples) if s.hold]
    if not held:
        return target
    x_t, t, mine = x_t[held], t[held], [samples[row] for row in held]
    with torch.no_grad(), _at(trainer, 0.0):  # draws nothing, however many samples are held
        answer = _predict(trainer, x_t, t, mine).float().cpu()
    guess = in_colours_of(torch.stack([s.x_0 for s in mine]), trainer.diffusion.read(x_t, answer, t))
    kept = trainer.diffusion.asking_for(guess, x_t, t).to(target.device)
    share = torch.tensor([s.hold for s in mine], device=target.device).view(-1, 1, 1, 1)
    return target.index_copy(0, torch.tensor(held, device=target.device), torch.lerp(target[held], kept, share))


def _mask(samples: list[Sample], like: Tensor) -> Tensor | None:
    """(B, 1, h, w), or None where no sample has one."""
    if all(s.mask is None for s in samples):
        return None
    everything = torch.ones(like.shape[-2:])
    return torch.stack([everything if s.mask is None else s.mask for s in samples])[:, None].to(like.device)


def prior_losses(trainer: Trainer, samples: list[Sample]) -> Tensor:
    """How far the adapters move the base's own prediction for these captions (B,), weighted as `sample_losses`.

    The base is its own teacher: no pictures of the class are needed, as in DreamBooth (arXiv 2208.12242, section 3.3).
    """
    x_t, _, t, weight = _noised(trainer, samples)
    # Left before the second pass: checkpointing repeats that one on the way back.
    with torch.no_grad(), _at(trainer, 0.0):
        kept = _predict(trainer, x_t, t, samples)
    return loss_per_sample(_predict(trainer, x_t, t, samples), kept) * weight


def _noised(trainer: Trainer, samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_t and the UNet's target (B, C, h, w), t and the weight of the loss (B,)."""
    diffusion, device = trainer.diffusion, trainer.base.device
    x_0 = torch.stack([s.x_0 for s in samples])
    noise = torch.stack([s.draw.noise for s in samples])
    t = torch.tensor([s.draw.timestep for s in samples])
    settings = trainer.settings.train
    weight = diffusion.weight(t, settings.min_snr_gamma, settings.high_noise_weight)
    other = torch.tensor([s.shown is not None for s in samples])
    if other.any():
        shown = torch.stack([s.x_0 if s.shown is None else s.shown for s in samples])
        noise = diffusion.noise_between(shown, x_0, noise, t)
        weight = torch.where(other, weight * diffusion.for_other_colours(t), weight)
    x_t, target = diffusion.noised(x_0, noise, t), diffusion.target(x_0, noise, t)
    return x_t, target.to(device), t, weight.to(device)


def _predict(trainer: Trainer, x_t: Tensor, t: Tensor, samples: list[Sample]) -> Tensor:
    """The UNet's answer to x_t (B, C, h, w) at t (B,)."""
    base, text = trainer.base, _text(trainer, [s.caption for s in samples])
    told = {}
    if text.pooled is not None:
        told = {"text_embeds": text.pooled, "time_ids": torch.tensor([s.sizes for s in samples], device=base.device)}
    return base.unet(
        x_t.to(base.device, base.dtype),
        t.to(base.device),
        encoder_hidden_states=text.states,
        added_cond_kwargs=told or None,
        return_dict=False,
    )[0]


def _text(trainer: Trainer, captions: list[str]) -> Embedding:
    """Captions for the UNet, from the cache or through the adapted text encoders."""
    if trainer.pictures.texts is not None:
        return stack([trainer.pictures.texts[c] for c in captions])
    return encode(trainer.base, captions)


def update(trainer: Trainer, loss: float) -> bool:
    """Clip and apply the gradient; False (and nothing applied) where loss or gradient is not finite."""
    trainer.scaler.unscale_(trainer.optimizer)
    parameters = list(trainer.adapters.matrices().values())
    limit = trainer.settings.train.max_grad_norm or math.inf
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    # An fp16 scale that is still too high is found by overflowing: that is its search, not a divergence.
    searching = trainer.scaler.is_enabled() and trainer.scaler.get_scale() > 1
    finite = math.isfinite(loss) and (math.isfinite(norm.item()) or searching)
    if finite:
        trainer.scaler.step(trainer.optimizer)  # with a scaler: only where no gradient overflowed
        trainer.scaler.update()
        _average(trainer)
    trainer.optimizer.zero_grad(set_to_none=True)
    return finite


@torch.no_grad()
def _average(trainer: Trainer) -> None:
    """Exponential moving average with a short memory at first: decay min(ema, (1 + n) / (10 + n)) after n updates."""
    decay = min(trainer.settings.train.ema, (1 + trainer.done) / (10 + trainer.done))
    for name, p in trainer.adapters.matrices().items() if trainer.average else ():
        trainer.average[name].lerp_(p, 1 - decay)


def _refuse_unmoved(trainer: Trainer, start: dict[str, Tensor]) -> None:
    """fp32 keeps seven digits: less than `STILL` is lost beside any weight that a layer already has."""
    furthest = max((p.detach() - start[name]).abs().max().item() for name, p in trainer.adapters.matrices().items())
    if furthest < STILL:
        raise Unmoved(
            Text(
                f"After {TRIED} steps the adapters are where they began (moved by {furthest:.0e}), so nothing would be learned. Raise the learning rate; 1e-4 is usual.",
                f"{TRIED} ステップ経ってもアダプターが動いていません(変化 {furthest:.0e})。このままでは何も学習されません。学習率を上げてください(通常は 1e-4)。",
            )
        )


def _give_up_if_diverged(skipped: list[int], step: int) -> None:
    in_a_row = all(k in skipped for k in range(step - 2, step + 1))
    if in_a_row or sum(k > step - 100 for k in skipped) >= 10:
        raise Diverged(
            Text(
                f"Training diverged at step {step + 1}: loss or gradient is not finite. Lower the learning rate (to a third), or set precision to fp32 or bf16.",
                f"ステップ {step + 1} で学習が発散しました(損失または勾配が有限値ではありません)。学習率を 3 分の 1 に下げるか、精度を fp32 か bf16 にしてください。",
            )
        )
