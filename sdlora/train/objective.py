"""The diffusion loss: noise a latent, predict, weigh by signal-to-noise ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor


@dataclass(frozen=True)
class Diffusion:
    """The base's forward process q(x_t | x_0) = N(sqrt(ā_t) x_0, (1 - ā_t) I) and what its network predicts."""

    alphas_cumprod: Tensor  # (T,), ā_t, fp32
    prediction: str  # "epsilon" or "v_prediction"

    @staticmethod
    def of(scheduler: dict[str, Any], prediction: str) -> Diffusion:
        return Diffusion(DDPMScheduler.from_config(scheduler).alphas_cumprod, prediction)

    @property
    def timesteps(self) -> int:
        return len(self.alphas_cumprod)

    def add_noise(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t for x_0 and noise (B, C, h, w) and t (B,)."""
        a = self._at(t)
        return a.sqrt() * x_0 + (1 - a).sqrt() * noise

    def equivalent_noise(self, shown: Tensor, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The noise that makes of x_0 what `noise` makes of `shown` (B, C, h, w): to ask for it is to ask for x_0."""
        return noise + self.snr(t).sqrt().view(-1, 1, 1, 1) * (shown - x_0)

    def snr(self, t: Tensor) -> Tensor:
        """ā_t / (1 - ā_t) of every t."""
        a = self.alphas_cumprod[t]
        return a / (1 - a)

    def target(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network should answer: the noise, or v = sqrt(ā) ε - sqrt(1 - ā) x_0 (arXiv 2202.00512, appendix D)."""
        if self.prediction == "epsilon":
            return noise
        a = self._at(t)
        return a.sqrt() * noise - (1 - a).sqrt() * x_0

    def predict_x0(self, x_t: Tensor, answer: Tensor, t: Tensor) -> Tensor:
        """x_0 (B, C, h, w) by an answer to x_t."""
        a = self._at(t)
        if self.prediction == "epsilon":
            return (x_t - (1 - a).sqrt() * answer) / a.sqrt()
        return a.sqrt() * x_t - (1 - a).sqrt() * answer

    def target_for_x0(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The answer to x_t by which x_0 is read."""
        a = self._at(t)
        return self.target(x_0, (x_t - a.sqrt() * x_0) / (1 - a).sqrt(), t)

    def weight(self, t: Tensor, gamma: float, high_noise: float = 0.0) -> Tensor:
        """Min-SNR-γ weights (B,), min(SNR, γ) / SNR for ε, / (SNR + 1) for v (arXiv 2303.09556, section 3.4; γ = 0: all 1),
        plus min(1 / SNR, `high_noise`) for ε: the loss in x_0, as far as the noise lets it be told. For v the same error
        has SNR / (SNR + 1) of that.

        With zero terminal SNR the last level has SNR 0: the first part is 1 for ε, and 0 for v.
        """
        snr = self.snr(t)
        epsilon = self.prediction == "epsilon"
        if gamma == 0:
            weight = torch.ones_like(snr)
        else:
            weight = (gamma / snr).clamp(max=1) if epsilon else snr.clamp(max=gamma) / (snr + 1)
        return weight + ((1 / snr).clamp(max=high_noise) if epsilon else (high_noise * snr).clamp(max=1) / (snr + 1))

    def structure_weight(self, t: int) -> float:
        """How far noise of level t hides all but where things are: 0 up to six tenths of the levels, rising to 1 at eight tenths."""
        return min(max(5 * t / self.timesteps - 3, 0.0), 1.0)

    def recoloured_weight(self, t: Tensor) -> Tensor:
        """What the weight of a recoloured sample is multiplied by (B,): min(1, 1 / SNR). Its target grows with the SNR while its error
        in x_0 does not."""
        return (1 / self.snr(t)).clamp(max=1)

    def _at(self, t: Tensor) -> Tensor:
        return self.alphas_cumprod[t].view(-1, 1, 1, 1)


def loss_per_sample(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error in fp32 over all but the first dimension: (B,). With a mask (B, 1, h, w), its weighted mean: a
    small subject counts as much as a large one."""
    error = (prediction.float() - target.float()).square()
    if mask is None:
        return error.flatten(1).mean(1)
    return (error * mask).flatten(1).sum(1) / (mask.expand_as(error).flatten(1).sum(1) + 1e-6)
