"""What a denoiser is trained to predict: how noise is added, the target, and what both say about the clean latent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers import DDPMScheduler
from torch import Tensor


class Objective(Protocol):
    """A forward process x_t = a(t) x_0 + s(t) ε over whole noise levels t, and what the network predicts of it.

    x_0, noise, x_t, outputs and targets are (B, C, h, w), t is (B,) with values from 0 to `timesteps` - 1.
    """

    @property
    def timesteps(self) -> int:
        """How many noise levels there are."""

    def add_noise(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t."""

    def target(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network should predict."""

    def predict_x0(self, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """x_0 by a prediction for x_t."""

    def target_for_x0(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The prediction for x_t from which `predict_x0` is x_0."""

    def snr(self, t: Tensor) -> Tensor:
        """Signal-to-noise ratio a(t)² / s(t)² of every t, (B,)."""

    def weight(self, t: Tensor, gamma: float, high_noise: float = 0.0) -> Tensor:
        """Weights of the squared errors (B,), by `train.min_snr_gamma` and `train.high_noise_weight`."""


@dataclass(frozen=True)
class DiffusionObjective:
    """Denoising diffusion, q(x_t | x_0) = N(sqrt(ā_t) x_0, (1 - ā_t) I), with a network that predicts ε or v."""

    alphas_cumprod: Tensor  # (T,), ā_t, fp32
    prediction: str  # "epsilon" or "v_prediction"

    @staticmethod
    def of(scheduler: dict[str, Any], prediction: str) -> DiffusionObjective:
        return DiffusionObjective(DDPMScheduler.from_config(scheduler).alphas_cumprod, prediction)

    @property
    def timesteps(self) -> int:
        return len(self.alphas_cumprod)

    def add_noise(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """sqrt(ā) x_0 + sqrt(1 - ā) ε."""
        a = self._at(t)
        return a.sqrt() * x_0 + (1 - a).sqrt() * noise

    def target(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """ε, or v = sqrt(ā) ε - sqrt(1 - ā) x_0 (arXiv 2202.00512, appendix D)."""
        if self.prediction == "epsilon":
            return noise
        a = self._at(t)
        return a.sqrt() * noise - (1 - a).sqrt() * x_0

    def predict_x0(self, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
        a = self._at(t)
        if self.prediction == "epsilon":
            return (x_t - (1 - a).sqrt() * output) / a.sqrt()
        return a.sqrt() * x_t - (1 - a).sqrt() * output

    def target_for_x0(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        a = self._at(t)
        return self.target(x_0, (x_t - a.sqrt() * x_0) / (1 - a).sqrt(), t)

    def snr(self, t: Tensor) -> Tensor:
        """ā / (1 - ā)."""
        a = self.alphas_cumprod[t]
        return a / (1 - a)

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

    def _at(self, t: Tensor) -> Tensor:
        return self.alphas_cumprod[t].view(-1, 1, 1, 1)
