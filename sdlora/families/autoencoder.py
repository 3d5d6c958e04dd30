"""Pictures to latents and back, through diffusers' AutoencoderKL, whatever number format the latents are in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from torch import Tensor


def downscaling(config: Mapping[str, Any]) -> int:
    """Pixels that a latent stands for, along a side: every level but the first halves the picture."""
    return int(2 ** (len(config["block_out_channels"]) - 1))


def to_latents(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] to scaled latents (B, C, h, w), fp32 on the CPU: the mean of the posterior."""
    mean = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()
    shift = vae.config.get("shift_factor") or 0.0
    return ((mean.float() - shift) * vae.config.scaling_factor).cpu()


def to_pixels(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Scaled latents (B, C, h, w) to (B, 3, H, W) in [-1, 1]. diffusers' pipelines do not cast: a denoiser in fp16 has its VAE in fp32."""
    z = latents.to(vae.device, vae.dtype) / vae.config.scaling_factor
    if shift := vae.config.get("shift_factor"):
        z = z + shift
    pixels: Tensor = vae.decode(z, return_dict=False)[0]
    return pixels
