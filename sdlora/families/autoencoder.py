"""Pictures to latents and back, through diffusers' AutoencoderKL, whatever number format the latents are in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from torch import Tensor

TILES = (64, 32, 16, 8)  # latents a side, from the largest: a quarter of each overlaps its neighbours


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


def smaller_tile(tile: int, size: int) -> int:
    """The next smaller tile, in latents a side, for a picture of `size` latents that was computed in `tile` (0 = whole); 0 = none."""
    return next((t for t in TILES if t < (tile or size)), 0)


@contextmanager
def tiled(vae: AutoencoderKL, tile: int) -> Iterator[None]:
    """Inside, the VAE computes in overlapping tiles of so many latents a side (0 = whole), and one picture after another.

    diffusers' own tiles are as large as the pictures that the base was trained on, so they save nothing at that size.
    """
    before = vae.use_tiling, vae.use_slicing, vae.tile_latent_min_size, vae.tile_sample_min_size
    if tile:
        vae.use_tiling = vae.use_slicing = True
        vae.tile_latent_min_size, vae.tile_sample_min_size = tile, tile * downscaling(vae.config)
    try:
        yield
    finally:
        vae.use_tiling, vae.use_slicing, vae.tile_latent_min_size, vae.tile_sample_min_size = before
