"""Pictures as latents: encoded once, cached on disk, kept in memory as far as there is room for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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

KEPT_BYTES = 2 << 30  # 16,000 pictures of 512 x 512 for SD 1.x
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
    flipped: Tensor
    sizes: Sizes
    mask: Tensor | None = None  # (h, w) of the plain picture, from 0 to 1; None = everything counts


class Latents(Sequence[Latent]):
    """Latents by the number of their picture. `shapes`, each (C, h, w), are known without reading any."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], read: Callable[[int], Latent]):
        self.shapes = shapes
        self._read = read

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return self.some(range(len(self))[number])
        return self._read(range(len(self))[number])

    def some(self, numbers: Sequence[int]) -> Latents:
        return Latents([self.shapes[n] for n in numbers], lambda k: self._read(numbers[k]))


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
    masks: bool = False,
) -> Latents:
    """Latents of all pictures, each cut to its size (width, height) in pixels, with their masks where those are wanted.

    `KEPT_BYTES` of them stay in memory. The others are read from the cache each time, and made again where they have gone.

    The mean of the posterior is used, not a draw from it: its deviation is a thousandth of a latent's own.
    Pictures are encoded one at a time, so that a latent's bytes do not depend on what was cached before a crash.

    Raises:
        BadInput: a latent is not finite; names the picture.
    """
    cache.folder.mkdir(parents=True, exist_ok=True)
    kept: dict[int, Latent] = {}
    shapes, room = [], KEPT_BYTES

    def read(number: int) -> Latent:
        if number in kept:
            return kept[number]
        picture, size = pictures[number], sizes[number]
        latent = _cached(vae, picture, size, cache.file(picture, size, vae.dtype))
        if not masks or not picture.mask:
            return latent
        shape = latent.plain.shape[-2], latent.plain.shape[-1]
        return replace(latent, mask=read_mask(picture.mask, size, shape))

    for done in range(len(pictures)):
        on_progress(done, len(pictures))
        latent = read(done)
        shapes.append(tuple(latent.plain.shape))
        room -= latent.plain.nbytes + latent.flipped.nbytes + (0 if latent.mask is None else latent.mask.nbytes)
        if room >= 0:
            kept[done] = latent
    on_progress(len(pictures), len(pictures))
    return Latents(shapes, read)


def _cached(vae: AutoencoderKL, picture: Picture, size: tuple[int, int], file: Path) -> Latent:
    if file.exists():
        try:
            return Latent(**load_file(file), sizes=sizes(picture, size))
        except (SafetensorError, OSError, TypeError):
            file.unlink()  # damaged: made again below
    pixels = _pixels(picture.path, size)
    both = [encode(vae, p[None])[0] for p in (pixels, pixels.flip(-1))]
    if not all(torch.isfinite(latent).all() for latent in both):
        name = picture.caption or picture.path.name
        raise BadInput(
            Text(
                f"The base cannot encode the picture {name!r}: its latent is not finite. Remove it, or train in fp32.",
                f"画像 {name!r} をエンコードできません(潜在表現が有限値になりません)。画像を外すか fp32 で学習してください。",
            )
        )
    canonical.write(file, {"plain": both[0], "flipped": both[1]})
    return Latent(both[0], both[1], sizes(picture, size))


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
