"""Which checkpoint is best, and at which strength: by the loss on pictures that were never trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdlora.core.oom_retry import retry_on_oom
from sdlora.core.text import Text
from sdlora.train.batches import Sample, sample_losses
from sdlora.train.colour_augmentation import pick_recoloured
from sdlora.train.latents import Latent
from sdlora.train.rng import Draw, generator
from sdlora.train.trainer import Trainer, eval_mode

TIMESTEPS = 8  # noise levels at which each held-out picture is evaluated
STRENGTHS = (0.4, 0.6, 0.8, 1.0, 1.2, 1.4)


@dataclass(frozen=True)
class Evaluation:
    """Mean held-out loss beside the base's; `noise` is the standard error of the paired difference."""

    loss: float
    base_loss: float
    noise: float


@dataclass(frozen=True)
class Evaluator:
    """Held-out pictures with fixed noise, noise levels and, where training recolours, colours.

    Every checkpoint is evaluated on exactly the same samples, made as training makes them.
    """

    samples: list[list[Sample]]  # by picture
    base_losses: Tensor  # (pictures × TIMESTEPS,)

    @staticmethod
    def of(trainer: Trainer, latents: list[Latent], captions: list[str]) -> Evaluator:
        """Fix the samples, and measure the base on them."""
        objective, seed = trainer.objective, trainer.settings.train.seed
        levels = [int((k + 0.5) * objective.timesteps / TIMESTEPS) for k in range(TIMESTEPS)]
        samples: list[list[Sample]] = []
        for i, (latent, caption) in enumerate(zip(latents, captions, strict=True)):
            samples.append([])
            for k, t in enumerate(levels):
                g = generator(seed, "judge", i, k)
                d = Draw(t, torch.randn(latent.plain.shape, generator=g), 1.0, 1.0)
                source = pick_recoloured(objective, latent.recoloured, t, trainer.settings.data.recolour, g)
                samples[-1].append(Sample(latent.plain, latent.sizes, caption, d, latent.mask, source))
        evaluator = Evaluator(samples, torch.empty(0))
        return Evaluator(samples, evaluator.losses(trainer, strength=0.0))

    @torch.no_grad()
    def losses(self, trainer: Trainer, strength: float = 1.0) -> Tensor:
        """Loss of every (picture, noise level) pair: (pictures × TIMESTEPS,). Leaves the adapters at strength 1."""
        with eval_mode(trainer, strength):
            return torch.cat([_picture_losses(trainer, picture) for picture in self.samples]).cpu()

    def evaluate(self, trainer: Trainer) -> Evaluation:
        losses = self.losses(trainer)
        return Evaluation(
            losses.mean().item(), self.base_losses.mean().item(), _standard_error(losses - self.base_losses)
        )

    def best_strength(self, trainer: Trainer) -> float:
        return recommended_strength({s: self.losses(trainer, s) for s in STRENGTHS})


def _picture_losses(trainer: Trainer, picture: list[Sample]) -> Tensor:
    """Loss of one held-out picture at each noise level; where memory runs out, fewer levels at once from here."""

    def losses() -> Tensor:
        rows = trainer.evaluation_rows
        return torch.cat([sample_losses(trainer, picture[k : k + rows]) for k in range(0, len(picture), rows)])

    def use_less_memory() -> Text | None:
        if trainer.evaluation_rows == 1:
            return None
        trainer.evaluation_rows //= 2
        rows = trainer.evaluation_rows
        return Text(
            f"Memory ran out while held-out pictures were evaluated: from here {rows} of {len(picture)} noise levels at a time. The result is the same.",
            f"検証画像の評価中にメモリが不足したため、ここから {len(picture)} 段階のノイズを {rows} 段階ずつ計算します。結果は同じです。",
        )

    return retry_on_oom(losses, use_less_memory, trainer.warn)


def recommended_strength(losses: dict[float, Tensor]) -> float:
    """The strength with the lowest held-out loss; 1, as it was trained, where the two differ by less than the standard error.

    `losses` are those of the same samples (N,) at each of `STRENGTHS`. The loss is smooth in the strength, so the parabola through
    the lowest and its neighbours places it better than the grid; rounded to 0.05.
    """
    means = [losses[s].mean().item() for s in STRENGTHS]
    lowest = means.index(min(means))
    gain = losses[1.0] - losses[STRENGTHS[lowest]]
    if gain.mean().item() <= _standard_error(gain):
        return 1.0
    k = min(max(lowest, 1), len(STRENGTHS) - 2)
    low, mid, high = means[k - 1 : k + 2]
    bend = low - 2 * mid + high
    shift = 0.5 * (low - high) / bend if bend > 0 else 0.0
    width = STRENGTHS[1] - STRENGTHS[0]
    strength = STRENGTHS[k] + width * max(-1.0, min(1.0, shift))
    return round(round(strength / 0.05) * 0.05, 2)


def _standard_error(difference: Tensor) -> float:
    """Of the mean of (N,) differences."""
    return difference.std().item() / len(difference) ** 0.5


def best_step(evaluations: dict[int, Evaluation]) -> int:
    """The step with the lowest held-out loss; the last one where the two differ by less than the standard error."""
    last = max(evaluations)
    best = min(evaluations, key=lambda step: evaluations[step].loss)
    return last if evaluations[last].loss - evaluations[best].loss < evaluations[last].noise else best
