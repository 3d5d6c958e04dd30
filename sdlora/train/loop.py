"""The training loop: noise, predict, compare, update the adapters; nothing else is ever changed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sdlora.config import Config, TrainSettings
from sdlora.errors import Diverged
from sdlora.events import Event, Stepped
from sdlora.lora.inject import Adapters
from sdlora.models.load import Base
from sdlora.models.prompt import encode, tokenize
from sdlora.text import Text
from sdlora.train.latents import Latent
from sdlora.train.loss import Diffusion, loss_per_sample
from sdlora.train.randomness import Draw, draw, key, picture_at
from sdlora.train.state import State


@dataclass(frozen=True)
class TrainingSet:
    """What the loop shows. `texts` holds each caption's embedding (T, width) where the text encoder is frozen."""

    latents: list[Latent]
    captions: list[str]
    texts: dict[str, Tensor] | None


@dataclass
class Trainer:
    """A base with adapters inside, their optimizer, and what has been skipped: all that lives through a run."""

    base: Base
    adapters: Adapters
    pictures: TrainingSet
    settings: Config
    skipped: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        t = self.settings.train
        rates = {"unet": t.unet_lr, "text_encoder": t.text_encoder_lr}
        self.rates = [rates[part] for part in self.adapters.parts]
        groups = [{"params": self.adapters.parameters_of(part), "lr": rates[part]} for part in self.adapters.parts]
        # fused: one kernel for all adapters instead of a few for each of hundreds
        self.fused = self.base.device.type != "mps"
        self.optimizer = torch.optim.AdamW(groups, weight_decay=t.weight_decay, fused=self.fused)
        self.diffusion = Diffusion.of(self.base.scheduler, self.base.prediction)
        fp16 = self.base.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(self.base.device.type, enabled=fp16)

    @property
    def modules(self) -> list[nn.Module]:
        return [self.base.unet, self.base.text_encoder]


@contextmanager
def evaluating(trainer: Trainer, strength: float = 1.0) -> Iterator[None]:
    """No dropout and the adapters at `strength` inside; training as it was, at strength 1, after."""
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


def train(
    trainer: Trainer, start: int, emit: Emit, should_stop: Callable[[], bool], after_step: Callable[[int], None]
) -> int:
    """Run updates `start` … `steps`; `after_step(k)` is called when k updates are done. Returns how many are done.

    Raises:
        Diverged: loss or gradient was not finite 3 times in a row or in 10 of the last 100 steps.
    """
    t = trainer.settings.train
    for step in range(start, t.steps):
        if should_stop():
            return step
        began = time.monotonic()

        # Learning rate: a pure function of the step.
        for group, rate in zip(trainer.optimizer.param_groups, trainer.rates, strict=True):
            group["lr"] = rate * schedule(step, t)

        # Gradient over batch_size × gradient_accumulation samples, counted through the whole run.
        loss = 0.0
        for micro in range(t.gradient_accumulation):
            first = (step * t.gradient_accumulation + micro) * t.batch_size
            torch.manual_seed(key(t.seed, "dropout", step, micro))
            part = batch_loss(trainer, range(first, first + t.batch_size)) / t.gradient_accumulation
            trainer.scaler.scale(part).backward()
            loss += part.item()

        # Update, unless something is not finite.
        finite = _update(trainer, loss)
        if not finite:
            trainer.skipped.append(step)
            _give_up_if_diverged(trainer.skipped, step)
        if math.isfinite(loss):
            emit(Stepped(step + 1, loss, trainer.optimizer.param_groups[0]["lr"], time.monotonic() - began))
        after_step(step + 1)
    return t.steps


def schedule(step: int, t: TrainSettings) -> float:
    """The factor on the learning rate for update number `step` (from 0): linear warm-up, then the chosen fall to 0."""
    if step < t.warmup_steps:
        return (step + 1) / t.warmup_steps
    progress = (step - t.warmup_steps) / max(1, t.steps - t.warmup_steps)
    if t.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1.0 if t.schedule == "constant" else 1 - progress


def batch_loss(trainer: Trainer, indexes: range) -> Tensor:
    """Weighted loss of the samples with these global numbers: a scalar with gradients to the adapters."""
    data, pictures = trainer.settings.data, trainer.pictures
    draws, latents, captions = [], [], []
    for index in indexes:
        number = picture_at(index, len(pictures.latents), trainer.settings.train.seed)
        latent = pictures.latents[number]
        d = draw(index, tuple(latent.plain.shape), trainer.diffusion.timesteps, trainer.settings.train.seed)
        draws.append(d)
        latents.append(latent.flipped if data.flip and d.flip < 0.5 else latent.plain)
        captions.append("" if d.caption < data.caption_dropout else pictures.captions[number])
    losses = sample_losses(trainer, torch.stack(latents), draws, captions)
    return losses.mean()


def sample_losses(trainer: Trainer, x_0: Tensor, draws: list[Draw], captions: list[str]) -> Tensor:
    """Loss of each sample (B,), min-SNR weighted; x_0 (B, C, h, w)."""
    base, diffusion = trainer.base, trainer.diffusion
    noise = torch.stack([d.noise for d in draws])
    t = torch.tensor([d.timestep for d in draws])
    x_t, target = diffusion.noised(x_0, noise, t), diffusion.target(x_0, noise, t)
    weight = diffusion.weight(t, trainer.settings.train.min_snr_gamma)
    predicted = base.unet(
        x_t.to(base.device, base.dtype),
        t.to(base.device),
        encoder_hidden_states=_context(trainer, captions),
        return_dict=False,
    )[0]
    return loss_per_sample(predicted, target.to(base.device)) * weight.to(base.device)


def _context(trainer: Trainer, captions: list[str]) -> Tensor:
    """Text for the UNet (B, T, width), from the cache or through the adapted text encoder."""
    if trainer.pictures.texts is not None:
        return torch.stack([trainer.pictures.texts[c] for c in captions])
    return encode(trainer.base.text_encoder, tokenize(trainer.base.tokenizer, captions))


def _update(trainer: Trainer, loss: float) -> bool:
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
    trainer.optimizer.zero_grad(set_to_none=True)
    return finite


def _give_up_if_diverged(skipped: list[int], step: int) -> None:
    in_a_row = all(k in skipped for k in range(step - 2, step + 1))
    if in_a_row or sum(k > step - 100 for k in skipped) >= 10:
        raise Diverged(
            Text(
                f"Training diverged at step {step + 1}: loss or gradient is not finite. Lower the learning rate (to a third), or set precision to fp32 or bf16.",
                f"ステップ {step + 1} で学習が発散しました(損失または勾配が有限値ではありません)。学習率を 3 分の 1 に下げるか、精度を fp32 か bf16 にしてください。",
            )
        )


def capture(trainer: Trainer, step: int) -> State:
    """Everything that the next step depends on."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in trainer.adapters.matrices().items():
        tensors[name] = parameter.data
        for slot, value in trainer.optimizer.state.get(parameter, {}).items():
            tensors[f"{name}:{slot}"] = value
    facts = {"threads": torch.get_num_threads(), "skipped": trainer.skipped, "scaler": trainer.scaler.state_dict()}
    return State(step, tensors, facts)


def restore(trainer: Trainer, state: State) -> None:
    """Continue as if never stopped. The same thread count is set again: another one adds in another order."""
    trainer.adapters.load(state.tensors)
    for name, parameter in trainer.adapters.matrices().items():
        slots = {k.split(":")[1]: v for k, v in state.tensors.items() if k.startswith(f"{name}:")}
        if slots:
            trainer.optimizer.state[parameter] = {
                slot: value.to(parameter.device) if trainer.fused or slot != "step" else value
                for slot, value in slots.items()
            }
    trainer.skipped[:] = state.facts["skipped"]
    if trainer.scaler.is_enabled():
        trainer.scaler.load_state_dict(state.facts["scaler"])
    torch.set_num_threads(state.facts["threads"])
