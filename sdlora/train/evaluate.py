"""Which checkpoint is best, and at which strength: by the loss on pictures that were never trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdlora.train.batches import Sample, pick_recoloured, sample_losses
from sdlora.train.latents import Latent
from sdlora.train.rng import Draw, generator
from sdlora.train.trainer import Trainer, eval_mode

TIMESTEPS = 8  # noise levels each held-out picture is judged at
MIN_PICTURES = 8  # pictures in a set from which on some are held out
MAX_HELD_OUT = 64  # held out: 512 questions a judgement, however large the set is
STRENGTHS = (0.4, 0.6, 0.8, 1.0, 1.2, 1.4)


def split(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indexes to train on and to hold out. Nothing is held out of a set that is too small to spare any."""
    if count < MIN_PICTURES or share == 0:
        return list(range(count)), []
    order = torch.randperm(count, generator=generator(seed, "judge")).tolist()
    held = min(MAX_HELD_OUT, max(1, round(count * share)))
    return sorted(order[held:]), sorted(order[:held])


@dataclass(frozen=True)
class Evaluation:
    """Mean held-out loss beside the base's; `noise` is the standard error of the paired difference."""

    loss: float
    base_loss: float
    noise: float


@dataclass(frozen=True)
class Evaluator:
    """Held-out pictures with fixed noise, noise levels and, where training recolours, colours: every checkpoint answers exactly
    the same questions, and they are those that it was trained on."""

    samples: list[list[Sample]]  # by picture
    base_losses: Tensor  # (pictures × TIMESTEPS,)

    @staticmethod
    def of(trainer: Trainer, latents: list[Latent], captions: list[str]) -> Evaluator:
        total, seed = trainer.objective.timesteps, trainer.settings.train.seed
        levels = [int((k + 0.5) * total / TIMESTEPS) for k in range(TIMESTEPS)]
        samples = []
        for i, (latent, caption) in enumerate(zip(latents, captions, strict=True)):
            asked = []
            for k, t in enumerate(levels):
                g = generator(seed, "judge", i, k)
                d = Draw(t, torch.randn(latent.plain.shape, generator=g), 1.0, 1.0)
                noisy_source = pick_recoloured(trainer, latent.recoloured, t, g)
                asked.append(Sample(latent.plain, latent.sizes, caption, d, latent.mask, noisy_source))
            samples.append(asked)
        evaluator = Evaluator(samples, torch.empty(0))
        return Evaluator(samples, evaluator.losses(trainer, strength=0.0))

    @torch.no_grad()
    def losses(self, trainer: Trainer, strength: float = 1.0) -> Tensor:
        """Loss of every (picture, noise level) pair: (pictures × TIMESTEPS,). Leaves the adapters at strength 1."""
        with eval_mode(trainer, strength):
            return torch.cat([sample_losses(trainer, asked) for asked in self.samples]).cpu()

    def evaluate(self, trainer: Trainer) -> Evaluation:
        losses = self.losses(trainer)
        return Evaluation(losses.mean().item(), self.base_losses.mean().item(), _noise(losses - self.base_losses))

    def best_strength(self, trainer: Trainer) -> float:
        return preferred({s: self.losses(trainer, s) for s in STRENGTHS})


def preferred(losses: dict[float, Tensor]) -> float:
    """The strength with the lowest held-out loss; 1, as it was trained, where the two differ by less than the noise.

    `losses` are those of the same questions (N,) at each of `STRENGTHS`. The loss is smooth in the strength, so the parabola through
    the lowest and its neighbours places it better than the grid; rounded to 0.05.
    """
    means = [losses[s].mean().item() for s in STRENGTHS]
    lowest = means.index(min(means))
    gain = losses[1.0] - losses[STRENGTHS[lowest]]
    if gain.mean().item() <= _noise(gain):
        return 1.0
    k = min(max(lowest, 1), len(STRENGTHS) - 2)
    low, mid, high = means[k - 1 : k + 2]
    bend = low - 2 * mid + high
    shift = 0.5 * (low - high) / bend if bend > 0 else 0.0
    width = STRENGTHS[1] - STRENGTHS[0]
    strength = STRENGTHS[k] + width * max(-1.0, min(1.0, shift))
    return round(round(strength / 0.05) * 0.05, 2)


def _noise(difference: Tensor) -> float:
    """The standard error of a mean."""
    return difference.std().item() / len(difference) ** 0.5


def best_step(evaluations: dict[int, Evaluation]) -> int:
    """The step with the lowest held-out loss; the last one where the two differ by less than the noise."""
    last = max(evaluations)
    best = min(evaluations, key=lambda step: evaluations[step].loss)
    return last if evaluations[last].loss - evaluations[best].loss < evaluations[last].noise else best
