"""The VAE: 64 px pictures to latents 4 x 16 x 16 and back, in diffusers' AutoencoderKL."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from base.augment import EDGE
from base.precision import autocast

KL_WEIGHT = 1e-4


def new_vae(seed: int = 0) -> AutoencoderKL:
    """Three levels, so the scale factor is 4. No attention: at this size it costs more than it gives."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=EDGE,
        mid_block_add_attention=False,
    )


def vae_loss(vae: AutoencoderKL, x: Tensor) -> Tensor:
    """L1 + 2 L2 + edges + a trace of KL, for pictures x (B, 3, 64, 64) in -1..1."""
    with autocast():
        moments = vae.quant_conv(vae.encoder(x))
        mean, log_var = moments.float().chunk(2, 1)  # (B, 4, 16, 16) each
        log_var = log_var.clamp(-12, 4)
        z = mean + (log_var / 2).exp() * torch.randn_like(mean)
        y = vae.decoder(vae.post_quant_conv(z)).float()
    off = y - x
    right = (off[..., 1:] - off[..., :-1]).abs().mean()
    down = (off[..., 1:, :] - off[..., :-1, :]).abs().mean()
    kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).mean()
    return off.abs().mean() + 2 * off.square().mean() + 0.5 * (right + down) + KL_WEIGHT * kl


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, x: Tensor) -> Tensor:
    """Pictures x (B, 3, 64, 64) in -1..1 through the mean of the posterior and back, clamped."""
    done = [vae.decode(vae.encode(part).latent_dist.mean).sample for part in x.split(32)]
    return torch.cat(done).clamp(-1, 1)


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """PSNR in dB of each picture, for values in -1..1: (B, ...) -> (B,)."""
    error = F.mse_loss(x, y, reduction="none").flatten(1).mean(1) / 4
    return -10 * error.clamp_min(1e-10).log10()
