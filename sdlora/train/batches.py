"""What a batch shows and what it costs: order of the pictures, captions, noise, the denoiser's prediction, the loss of each sample."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sdlora.config import Config
from sdlora.data.buckets import batches_per_epoch
from sdlora.data.captions import join_tags, split_tags, tags_in_front
from sdlora.families.conditioning import Conditioning, stack
from sdlora.models.prompt import encode
from sdlora.train.colour_augmentation import distilled_target, pick_recoloured, recoloured_noise, structure_weight
from sdlora.train.latents import Sizes, TrainingItem
from sdlora.train.rng import Draw, draw, generator
from sdlora.train.trainer import Trainer, at_strength

MAX_TAG_ORDERS = 8  # of each caption: few enough to be encoded once and cached


@dataclass
class BatchSampler:
    """Batches of pictures of one shape each, as a pure function of (seed, epoch, shapes): any batch can be reached at once.

    Every epoch shows every picture once; a bucket's last batch may be smaller.
    """

    shapes: Sequence[tuple[int, ...]]  # of each picture's latent
    batch_size: int
    seed: int
    batches_per_epoch: int = 0
    _epoch: int = -1
    _batches: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batches_per_epoch = batches_per_epoch(map(len, self._buckets().values()), self.batch_size)

    def batch(self, number: int) -> list[int]:
        """Indexes of the pictures in batch `number`, counted from 0 through the whole run."""
        epoch, position = divmod(number, self.batches_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffle(epoch)
        return self._batches[position]

    def _buckets(self) -> dict[tuple[int, ...], list[int]]:
        buckets: dict[tuple[int, ...], list[int]] = {}
        for index, shape in enumerate(self.shapes):
            buckets.setdefault(shape, []).append(index)
        return dict(sorted(buckets.items()))

    def _shuffle(self, epoch: int) -> list[list[int]]:
        g = generator(self.seed, "perm", epoch)
        batches: list[list[int]] = []
        for indexes in self._buckets().values():
            order = [indexes[k] for k in torch.randperm(len(indexes), generator=g).tolist()]
            batches += [order[k : k + self.batch_size] for k in range(0, len(order), self.batch_size)]
        return [batches[k] for k in torch.randperm(len(batches), generator=g).tolist()]


@dataclass(frozen=True)
class Sample:
    """One row of a forward pass."""

    x_0: Tensor  # (C, h, w)
    sizes: Sizes
    caption: str
    draw: Draw
    mask: Tensor | None = None  # (h, w)
    noisy_source: Tensor | None = None  # (C, h, w): what noise is added to where that is not x_0, but x_0 recoloured
    distill_weight: float = 0.0  # of the base's own prediction in the target, from 0 to 1


def make_sample(trainer: Trainer, item: TrainingItem, number: int) -> Sample:
    """Sample `number`, counted through the whole run, of a picture: its noise, caption, flip and colours are drawn here."""
    data, t, objective = trainer.settings.data, trainer.settings.train, trainer.objective
    latent = item.latent()
    d = draw(number, tuple(latent.plain.shape), objective.timesteps, t.seed, t.noise_offset)
    x_0, mask, variants = latent.plain, latent.mask, latent.recoloured
    if data.flip and latent.flipped is not None and d.flip < 0.5:
        x_0, mask, variants = latent.flipped, None if mask is None else mask.flip(-1), latent.flipped_recoloured
    caption = "" if d.caption < data.caption_dropout else pick_caption(item.caption, d.tags, trainer.settings)
    source = pick_recoloured(objective, variants, d.timestep, data.recolour, generator(t.seed, "colours", number))
    return Sample(x_0, latent.sizes, caption, d, mask, source, data.recolour * structure_weight(objective, d.timestep))


def pick_caption(caption: str, draw: float, settings: Config) -> str:
    """The tag order that a uniform draw in [0, 1) chooses."""
    choices = tag_orders(caption, settings)
    return choices[int(draw * len(choices))]


def tag_orders(caption: str, settings: Config) -> list[str]:
    """Every form of a caption that training may show: with `data.shuffle`, up to `MAX_TAG_ORDERS` orders of the tags after the
    first `keep_tokens`, of which the trigger's is always one, so that no place in the caption counts for more; else the caption itself."""
    fixed, others = tags_in_front(split_tags(caption), settings.data.keep_tokens, settings.data.trigger)
    if not settings.data.shuffle or len(others) < 2:
        return [caption]
    number = int.from_bytes(hashlib.blake2b(caption.encode(), digest_size=6).digest(), "big")
    orders = []
    for k in range(MAX_TAG_ORDERS):
        order = torch.randperm(len(others), generator=generator(settings.train.seed, "tags", number, k)).tolist()
        orders.append(join_tags([*fixed, *(others[i] for i in order)], caption))
    return list(dict.fromkeys(orders))


def batch_losses(trainer: Trainer, batch: dict[int, int]) -> Tensor:
    """Weighted losses (B,) with gradients to the adapters. `batch` is sample number, through the whole run -> index of the item."""
    items = [trainer.items[index] for index in batch.values()]
    samples = [make_sample(trainer, item, number) for item, number in zip(items, batch, strict=True)]
    losses = sample_losses(trainer, samples)
    weight = trainer.settings.train.prior_weight
    if weight == 0:
        return losses
    prior = [replace(s, caption=i.prior_caption, noisy_source=None) for s, i in zip(samples, items, strict=True)]
    return losses + weight * prior_losses(trainer, prior)


def sample_losses(trainer: Trainer, samples: list[Sample]) -> Tensor:
    """Loss of each sample (B,), weighted by noise level; all of one shape."""
    objective = trainer.objective
    x_0, noise, t, weight = _stack(trainer, samples)
    noise, factor = recoloured_noise(objective, x_0, noise, t, [s.noisy_source for s in samples])
    x_t = objective.add_noise(x_0, noise, t)
    target = objective.target(x_0, noise, t).to(trainer.base.device)

    def base_prediction(rows: list[int]) -> Tensor:
        return predict_base(trainer, x_t[rows], t[rows], [samples[row] for row in rows]).float().cpu()

    target = distilled_target(objective, x_0, x_t, t, target, [s.distill_weight for s in samples], base_prediction)
    prediction = predict(trainer, x_t, t, samples)
    return loss_per_sample(prediction, target, _masks(samples, target)) * (weight * factor).to(target.device)


def prior_losses(trainer: Trainer, samples: list[Sample]) -> Tensor:
    """How far the adapters move the base's own prediction for these captions (B,), weighted as `sample_losses`.

    The base is its own teacher: no pictures of the class are needed, as in DreamBooth (arXiv 2208.12242, section 3.3).
    """
    x_0, noise, t, weight = _stack(trainer, samples)
    x_t = trainer.objective.add_noise(x_0, noise, t)
    # Before the pass with gradients: checkpointing repeats that one on the way back, at whatever strength is set then.
    teacher = predict_base(trainer, x_t, t, samples)
    return loss_per_sample(predict(trainer, x_t, t, samples), teacher) * weight.to(teacher.device)


def _stack(trainer: Trainer, samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_0 and noise (B, C, h, w), t and the weight of the loss (B,), on the CPU."""
    x_0 = torch.stack([s.x_0 for s in samples])
    noise = torch.stack([s.draw.noise for s in samples])
    t = torch.tensor([s.draw.timestep for s in samples])
    settings = trainer.settings.train
    return x_0, noise, t, trainer.objective.weight(t, settings.min_snr_gamma, settings.high_noise_weight)


def predict(trainer: Trainer, x_t: Tensor, t: Tensor, samples: list[Sample]) -> Tensor:
    """The denoiser's output (B, C, h, w) for x_t at t (B,)."""
    base, text = trainer.base, _encode_captions(trainer, [s.caption for s in samples])
    return base.family.predict(base, x_t, t, text, [s.sizes for s in samples])


@torch.no_grad()
def predict_base(trainer: Trainer, x_t: Tensor, t: Tensor, samples: list[Sample]) -> Tensor:
    """What the base predicts without the adapters (B, C, h, w). Draws nothing from the global random state."""
    with at_strength(trainer, 0.0):
        return predict(trainer, x_t, t, samples)


def _encode_captions(trainer: Trainer, captions: list[str]) -> Conditioning:
    """From the cache, or through the text encoders and their adapters."""
    if trainer.text_cache is not None:
        return stack([trainer.text_cache[c] for c in captions])
    return encode(trainer.base, captions)


def _masks(samples: list[Sample], like: Tensor) -> Tensor | None:
    """(B, 1, h, w), or None where no sample has one."""
    if all(s.mask is None for s in samples):
        return None
    everything = torch.ones(like.shape[-2:])
    return torch.stack([everything if s.mask is None else s.mask for s in samples])[:, None].to(like.device)


def loss_per_sample(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error in fp32 over all but the first dimension: (B,). With a mask (B, 1, h, w), its weighted mean: a
    small subject counts as much as a large one."""
    error = (prediction.float() - target.float()).square()
    if mask is None:
        return error.flatten(1).mean(1)
    return (error * mask).flatten(1).sum(1) / (mask.expand_as(error).flatten(1).sum(1) + 1e-6)
