"""What one forward pass asks of the UNet, and how far its answer is off: samples, their noise and target, the loss of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sdlora.models.prompt import Embedding, encode, stack
from sdlora.train.captions import pick_caption
from sdlora.train.latents import Sizes
from sdlora.train.objective import loss_per_sample
from sdlora.train.recolour import MAX_SNR, match_colours
from sdlora.train.rng import Draw, draw, generator
from sdlora.train.trainer import Trainer, at_strength


@dataclass(frozen=True)
class Sample:
    """One picture as a forward pass sees it."""

    x_0: Tensor  # (C, h, w)
    sizes: Sizes
    caption: str
    draw: Draw
    mask: Tensor | None = None  # (h, w)
    noisy_source: Tensor | None = (
        None  # (C, h, w): what noise is added to where that is not x_0, but x_0 in other colours
    )
    distill_weight: float = 0.0  # how far the base's own shapes are asked for, from not at all to 1


def batch_losses(trainer: Trainer, batch: dict[int, int]) -> Tensor:
    """Weighted losses (B,) with gradients to the adapters; `batch` is global sample number -> picture."""
    data, t, pictures = trainer.settings.data, trainer.settings.train, trainer.pictures
    samples = []
    for sample, number in batch.items():
        latent = pictures.latents[number]
        d = draw(sample, tuple(latent.plain.shape), trainer.objective.timesteps, t.seed, t.noise_offset)
        x_0, mask, ways = latent.plain, latent.mask, latent.recoloured
        if data.flip and latent.flipped is not None and d.flip < 0.5:
            x_0, mask, ways = latent.flipped, None if mask is None else mask.flip(-1), latent.flipped_recoloured
        caption = (
            ""
            if d.caption < data.caption_dropout
            else pick_caption(pictures.captions[number], d.tags, trainer.settings)
        )
        other = pick_recoloured(trainer, ways, d.timestep, generator(t.seed, "colours", sample))
        distill_weight = data.recolour * trainer.objective.structure_weight(d.timestep)
        samples.append(Sample(x_0, latent.sizes, caption, d, mask, other, distill_weight))
    losses = sample_losses(trainer, samples)
    if t.prior_weight == 0:
        return losses
    plain = [
        replace(s, caption=pictures.priors[n], noisy_source=None) for s, n in zip(samples, batch.values(), strict=True)
    ]
    return losses + t.prior_weight * prior_losses(trainer, plain)


def pick_recoloured(trainer: Trainer, ways: Tensor | None, timestep: int, g: torch.Generator) -> Tensor | None:
    """One of `ways` (K, C, h, w) for its share of the samples whose colours are still open, else None."""
    if ways is None or trainer.objective.snr(torch.tensor(timestep)) > MAX_SNR:
        return None
    chance, way = torch.rand(2, generator=g).tolist()
    return ways[int(way * len(ways))] if chance < trainer.settings.data.recolour else None


def sample_losses(trainer: Trainer, samples: list[Sample]) -> Tensor:
    """Loss of each sample (B,), weighted by noise level; all of one shape."""
    x_t, target, t, weight = _noised(trainer, samples)
    target = _distilled_target(trainer, x_t, target, t, samples)
    return loss_per_sample(_predict(trainer, x_t, t, samples), target, _mask(samples, target)) * weight


def _distilled_target(trainer: Trainer, x_t: Tensor, target: Tensor, t: Tensor, samples: list[Sample]) -> Tensor:
    """The target (B, C, h, w) drawn, by each sample's `hold`, towards what the base itself makes of x_t, in the picture's colours."""
    held = [row for row, s in enumerate(samples) if s.distill_weight]
    if not held:
        return target
    x_t, t, mine = x_t[held], t[held], [samples[row] for row in held]
    with torch.no_grad(), at_strength(trainer, 0.0):  # draws nothing, however many samples are held
        answer = _predict(trainer, x_t, t, mine).float().cpu()
    guess = match_colours(torch.stack([s.x_0 for s in mine]), trainer.objective.predict_x0(x_t, answer, t))
    kept = trainer.objective.target_for_x0(guess, x_t, t).to(target.device)
    share = torch.tensor([s.distill_weight for s in mine], device=target.device).view(-1, 1, 1, 1)
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
    with torch.no_grad(), at_strength(trainer, 0.0):
        kept = _predict(trainer, x_t, t, samples)
    return loss_per_sample(_predict(trainer, x_t, t, samples), kept) * weight


def _noised(trainer: Trainer, samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_t and the UNet's target (B, C, h, w), t and the weight of the loss (B,)."""
    diffusion, device = trainer.objective, trainer.base.device
    x_0 = torch.stack([s.x_0 for s in samples])
    noise = torch.stack([s.draw.noise for s in samples])
    t = torch.tensor([s.draw.timestep for s in samples])
    settings = trainer.settings.train
    weight = diffusion.weight(t, settings.min_snr_gamma, settings.high_noise_weight)
    other = torch.tensor([s.noisy_source is not None for s in samples])
    if other.any():
        sources = torch.stack([s.x_0 if s.noisy_source is None else s.noisy_source for s in samples])
        noise = diffusion.equivalent_noise(sources, x_0, noise, t)
        weight = torch.where(other, weight * diffusion.recoloured_weight(t), weight)
    x_t, target = diffusion.add_noise(x_0, noise, t), diffusion.target(x_0, noise, t)
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
