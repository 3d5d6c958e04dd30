"""Pictures as latents: encoded when they are first shown, cached on disk, kept in memory as far as there is room for them."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sdlora.core.errors import BadInput
from sdlora.core.safetensors_io import writer
from sdlora.core.text import Text
from sdlora.data import fit
from sdlora.train.recolour import recolour
from sdlora.train.rng import generator

MEMORY_CACHE_BYTES = 2 << 30  # 16,000 pictures of 512 x 512 for SD 1.x
COLOURINGS = 24  # random ones that a picture is also shown in where `data.recolour` is on
_OTHER = {"plain": "recoloured", "flipped": "flipped_recoloured"}
_VERSION = 1  # of how a picture becomes a latent; part of the cache's key


@dataclass(frozen=True)
class CaptionedImage:
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
    recoloured: Tensor | None = None  # (COLOURINGS, C, h, w) of the plain picture; None where that is not wanted
    flipped_recoloured: Tensor | None = None


class Latents(Sequence[Latent]):
    """Latents by the number of their picture. `shapes`, each (C, h, w), are known without reading any.

    `left` tells how many seconds it will take to make those that nobody has asked for yet.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, ...]], read: Callable[[int], Latent], left: Callable[[], float] = lambda: 0.0
    ):
        self.shapes, self.left = shapes, left
        self._read = read

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return self.some(range(len(self))[number])
        return self._read(range(len(self))[number])

    def some(self, numbers: Sequence[int]) -> Latents:
        return Latents([self.shapes[n] for n in numbers], lambda k: self._read(numbers[k]), self.left)


@dataclass(frozen=True)
class Cache:
    """Where latents are kept. `vae` is the VAE's fingerprint: another VAE gives other latents."""

    folder: Path
    vae: str

    def file(self, picture: CaptionedImage, size: tuple[int, int], dtype: torch.dtype) -> Path:
        parts = f"{picture.sha256} {self.vae} {size} {dtype} {_VERSION}"
        return self.folder / (hashlib.sha256(parts.encode()).hexdigest()[:40] + ".safetensors")


@dataclass
class Encoder:
    """Makes the latents of pictures, each when it is first asked for, cut to its size (width, height) in pixels.

    `MEMORY_CACHE_BYTES` of them stay in memory. The others are read from the cache each time, and made again where they have gone.

    The mean of the posterior is used, not a draw from it: its deviation is a thousandth of a latent's own.
    Pictures are encoded one at a time, so that a latent's bytes do not depend on what was cached before a crash.
    """

    vae: AutoencoderKL
    pictures: Sequence[CaptionedImage]
    sizes: Sequence[tuple[int, int]]
    cache: Cache
    mirrored: bool = True
    masks: bool = False
    recoloured: bool = False
    room: int = field(default_factory=lambda: MEMORY_CACHE_BYTES)
    _kept: dict[int, Latent] = field(default_factory=dict)
    _taken: list[float] = field(default_factory=list)  # seconds of each that was made

    def latents(self) -> Latents:
        """Of all pictures; none is made yet."""
        self.cache.folder.mkdir(parents=True, exist_ok=True)
        config = self.vae.config
        factor = 2 ** (len(config.block_out_channels) - 1)
        shapes = [(config.latent_channels, height // factor, width // factor) for width, height in self.sizes]
        return Latents(shapes, self.read, self.left)

    def read(self, number: int) -> Latent:
        """Raises:
        BadInput: the latent is not finite; names the picture.
        """
        if number in self._kept:
            return self._kept[number]
        picture, size = self.pictures[number], self.sizes[number]
        known = self._known(number)
        latent = Latent(sizes=sizes(picture, size), **known)
        if self.masks and picture.mask:
            shape = latent.plain.shape[-2], latent.plain.shape[-1]
            latent = replace(latent, mask=read_mask(picture.mask, size, shape))
        self.room -= sum(t.nbytes for t in vars(latent).values() if isinstance(t, Tensor))
        if self.room >= 0:
            self._kept[number] = latent
        return latent

    def left(self) -> float:
        """Seconds that the others will take, at the pace of those made so far."""
        there = {path.name for path in self.cache.folder.iterdir()}
        missing = sum(self._file(n).name not in there for n in range(len(self.pictures)) if n not in self._kept)
        return missing * statistics.median(self._taken) if self._taken else 0.0

    def _file(self, number: int) -> Path:
        return self.cache.file(self.pictures[number], self.sizes[number], self.vae.dtype)

    def _known(self, number: int) -> dict[str, Any]:
        """The latents that are wanted, by their names in `Latent`: from the cache, else made and put there."""
        file, known = self._file(number), dict[str, Tensor]()
        if file.exists():
            try:
                known = load_file(file)
            except (SafetensorError, OSError):
                file.unlink()  # damaged: made again below
        ways = ["plain", *["flipped"] * self.mirrored]
        wanted = ways + [_OTHER[way] for way in ways if self.recoloured]
        missing = [way for way in wanted if way not in known]
        if missing:
            began = time.monotonic()
            known |= self._encoded(number, missing)
            writer.write(file, known)
            self._taken.append(time.monotonic() - began)
        return {"flipped": None} | {way: known[way] for way in wanted}

    def _encoded(self, number: int, ways: list[str]) -> dict[str, Tensor]:
        picture = self.pictures[number]
        pixels = _pixels(picture.path, self.sizes[number])
        shown = {"plain": pixels[None], "flipped": pixels.flip(-1)[None]}
        if any(way in _OTHER.values() for way in ways):
            colours = [generator(0, "colours", *self.pictures[number].sha256.encode(), k) for k in range(COLOURINGS)]
            others = torch.stack([recolour(pixels, g) for g in colours])
            shown |= {_OTHER["plain"]: others, _OTHER["flipped"]: others.flip(-1)}
        found = {way: torch.cat([encode(self.vae, one) for one in shown[way].split(1)]) for way in ways}
        found = {way: latent[0] if way in _OTHER else latent for way, latent in found.items()}
        if not all(torch.isfinite(latent).all() for latent in found.values()):
            name = picture.caption or picture.path.name
            raise BadInput(
                Text(
                    f"The base cannot encode the picture {name!r}: its latent is not finite. Remove it, or train in fp32.",
                    f"画像 {name!r} をエンコードできません(潜在表現が有限値になりません)。画像を外すか fp32 で学習してください。",
                )
            )
        return found


def sizes(picture: CaptionedImage, size: tuple[int, int]) -> Sizes:
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
