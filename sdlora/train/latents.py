"""Pictures as latents: encoded once, cached on disk, kept in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sdlora.data import fit
from sdlora.errors import BadInput
from sdlora.lora import canonical
from sdlora.text import Text

_VERSION = 1  # of how a picture becomes a latent; part of the cache's key


@dataclass(frozen=True)
class Picture:
    """A picture to train on; width and height in pixels."""

    path: Path
    sha256: str
    width: int
    height: int
    caption: str
    mask: Path | None = None  # grey: white counts, black does not; None = everything counts


# Pixels as SDXL is told them (arXiv 2307.01952, section 2.2): original height and width, top and left of the crop in the
# scaled picture, height and width trained at.
Sizes = tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class Latent:
    """One picture's latent and its mirrored picture's (the VAE does not commute with mirroring): (C, h, w), fp32."""

    plain: Tensor
    flipped: Tensor | None  # None where pictures are not mirrored
    sizes: Sizes
    mask: Tensor | None = None  # (h, w) of the plain picture, from 0 to 1; None = everything counts


@dataclass(frozen=True)
class Cache:
    """Where latents are kept. `vae` is the VAE's fingerprint: another VAE gives other latents."""

    folder: Path
    vae: str

    def file(self, picture: Picture, size: tuple[int, int], dtype: torch.dtype) -> Path:
        parts = f"{picture.sha256} {self.vae} {size} {dtype} {_VERSION}"
        return self.folder / (hashlib.sha256(parts.encode()).hexdigest()[:40] + ".safetensors")


def encode_pictures(
    vae: AutoencoderKL,
    pictures: Sequence[Picture],
    sizes: Sequence[tuple[int, int]],
    cache: Cache,
    on_progress: Callable[[int, int], None],
    mirrored: bool = True,
) -> list[Latent]:
    """Latents of all pictures, each cut to its size (width, height) in pixels, and of their mirrored ones where wanted.

    The mean of the posterior is used, not a draw from it: its deviation is a thousandth of a latent's own.
    Pictures are encoded one at a time, so that a latent's bytes do not depend on what was cached before a crash.

    Raises:
        BadInput: a latent is not finite; names the picture.
    """
    cache.folder.mkdir(parents=True, exist_ok=True)
    latents = []
    for done, (picture, size) in enumerate(zip(pictures, sizes, strict=True)):
        on_progress(done, len(pictures))
        latents.append(_cached(vae, picture, size, cache.file(picture, size, vae.dtype), mirrored))
    on_progress(len(pictures), len(pictures))
    return latents


def _cached(vae: AutoencoderKL, picture: Picture, size: tuple[int, int], file: Path, mirrored: bool) -> Latent:
    known: dict[str, Tensor] = {}
    if file.exists():
        try:
            known = load_file(file)
        except (SafetensorError, OSError):
            file.unlink()  # damaged: made again below
    wanted = ("plain", "flipped") if mirrored else ("plain",)
    if not set(wanted) <= known.keys():
        pixels = _pixels(picture.path, size)
        ways = {"plain": pixels, "flipped": pixels.flip(-1)}
        known |= {way: encode(vae, ways[way][None])[0] for way in wanted if way not in known}
        if not all(torch.isfinite(latent).all() for latent in known.values()):
            name = picture.caption or picture.path.name
            raise BadInput(
                Text(
                    f"The base cannot encode the picture {name!r}: its latent is not finite. Remove it, or train in fp32.",
                    f"画像 {name!r} をエンコードできません(潜在表現が有限値になりません)。画像を外すか fp32 で学習してください。",
                )
            )
        canonical.write(file, known)
    return Latent(known["plain"], known["flipped"] if mirrored else None, sizes(picture, size))


def sizes(picture: Picture, size: tuple[int, int]) -> Sizes:
    """What `fit` does to the picture. The cut is even, so the mirrored picture's is the same."""
    width, height = size
    scale = max(width / picture.width, height / picture.height)
    top, left = ((side * scale - cut) / 2 for side, cut in ((picture.height, height), (picture.width, width)))
    return picture.height, picture.width, round(top), round(left), height, width


def read_mask(path: Path, size: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """The mask cut as its picture is to `size` (width, height) in pixels, then its mean over each of the latent's (h, w) cells."""
    with Image.open(path) as picture:
        cut = fit(picture.convert("RGB"), *size).convert("L")
    small = cut.resize((shape[1], shape[0]), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small).copy()).float() / 255


def _pixels(path: Path, size: tuple[int, int]) -> Tensor:
    """(3, height, width) in [-1, 1]."""
    with Image.open(path) as picture:
        array = np.asarray(fit(picture.convert("RGB"), *size))
    return torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 127.5 - 1


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] to scaled latents (B, C, h, w), fp32 on the CPU."""
    mean = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()
    return (mean.float() * vae.config.scaling_factor).cpu()
