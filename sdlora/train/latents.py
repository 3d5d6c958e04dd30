"""Pictures as latents: encoded when they are first needed, cached on disk, and kept in memory as far as there is room."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sdlora.core.errors import BadInput
from sdlora.core.oom_retry import retry_on_oom
from sdlora.core.safetensors_io import writer
from sdlora.core.text import Text
from sdlora.data import fit
from sdlora.families.autoencoder import downscaling, smaller_tile, tiled, to_latents
from sdlora.train.colour_augmentation import recolour
from sdlora.train.rng import generator

MEMORY_CACHE_BYTES = 2 << 30  # 16,000 pictures of 512 x 512 for SD 1.x
COLOURINGS = 24  # random ones of each picture where `data.recolour` is on
_RECOLOURED = {"plain": "recoloured", "flipped": "flipped_recoloured"}
_VERSION = 1  # of how a picture becomes a latent; part of the cache's key

Size = tuple[int, int]  # width and height in pixels
# Pixels as SDXL is told them (arXiv 2307.01952, section 2.2): original height and width, top and left of the crop in the
# scaled picture, height and width trained at.
Sizes = tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class CaptionedImage:
    """A picture file to train on, with its caption; width and height in pixels."""

    path: Path
    sha256: str
    width: int
    height: int
    caption: str
    mask: Path | None = None  # grey: white counts, black does not; None = everything counts


@dataclass(frozen=True)
class Latent:
    """One picture's latent and its mirrored picture's (the VAE does not commute with mirroring): (C, h, w), fp32."""

    plain: Tensor
    flipped: Tensor | None  # None where pictures are not mirrored
    sizes: Sizes
    mask: Tensor | None = None  # (h, w) of the plain picture, from 0 to 1; None = everything counts
    recoloured: Tensor | None = None  # (COLOURINGS, C, h, w) of the plain picture; None where that is not wanted
    flipped_recoloured: Tensor | None = None


@dataclass(frozen=True)
class TrainingItem:
    """A picture as training needs it: scaled and cut to `size`, its latent made or read when it is asked for."""

    image: CaptionedImage
    prior_caption: str  # without the trigger word: what prior preservation shows the base
    size: Size
    shape: tuple[int, ...]  # (C, h, w) of its latent
    latent: Callable[[], Latent]

    @property
    def caption(self) -> str:
        return self.image.caption


@dataclass(frozen=True)
class LatentCache:
    """Latents on disk. `vae` is the VAE's fingerprint: another VAE gives other latents."""

    folder: Path
    vae: str

    def file(self, image: CaptionedImage, size: Size, dtype: torch.dtype, tile: int = 0) -> Path:
        parts = f"{image.sha256} {self.vae} {size} {dtype} {_VERSION}" + f" tile {tile}" * bool(tile)
        return self.folder / (hashlib.sha256(parts.encode()).hexdigest()[:40] + ".safetensors")


@dataclass
class Encoder:
    """Makes the latents of pictures, each when it is first asked for.

    `MEMORY_CACHE_BYTES` of them stay in memory. The others are read from the cache each time, and made again where they have gone.

    The mean of the posterior is used, not a draw from it: its deviation is a thousandth of a latent's own.
    Pictures are encoded one at a time, so that a latent's bytes do not depend on what was cached before a crash.
    """

    vae: AutoencoderKL
    cache: LatentCache
    flip: bool = True
    masks: bool = False
    recolour: bool = False
    warn: Callable[[Text], None] = lambda text: None  # is told what is encoded in tiles since memory ran out
    tile: int = 0  # latents a side that are encoded at once since memory ran out; 0 = whole pictures
    free_bytes: int = field(default_factory=lambda: MEMORY_CACHE_BYTES)
    _in_memory: dict[tuple[CaptionedImage, Size], Latent] = field(default_factory=dict)
    _seconds: list[float] = field(default_factory=list)  # of each that was made

    def item(self, image: CaptionedImage, size: Size, prior_caption: str = "") -> TrainingItem:
        """The picture cut to `size`; its latent is not made yet."""
        config = self.vae.config
        factor = downscaling(config)
        shape = (config.latent_channels, size[1] // factor, size[0] // factor)
        return TrainingItem(image, prior_caption, size, shape, partial(self.latent, image, size))

    def latent(self, image: CaptionedImage, size: Size) -> Latent:
        """Raises BadInput: the latent is not finite; names the picture."""
        if (image, size) in self._in_memory:
            return self._in_memory[image, size]
        tensors = retry_on_oom(partial(self._tensors, image, size), partial(self._use_less_memory, size), self.warn)
        plain = tensors["plain"]
        mask = read_mask(image.mask, size, (plain.shape[-2], plain.shape[-1])) if self.masks and image.mask else None
        latent = Latent(
            plain,
            tensors.get("flipped"),
            sizes(image, size),
            mask,
            tensors.get("recoloured"),
            tensors.get("flipped_recoloured"),
        )
        self.free_bytes -= sum(t.nbytes for t in vars(latent).values() if isinstance(t, Tensor))
        if self.free_bytes >= 0:
            self._in_memory[image, size] = latent
        return latent

    def seconds_left(self, items: Iterable[TrainingItem]) -> float:
        """How long the latents that are not made yet will take, at the median pace of those that were."""
        if not self._seconds:
            return 0.0
        cached = {path.name for path in self.cache.folder.iterdir()}
        wanted = [(i.image, i.size) for i in items if (i.image, i.size) not in self._in_memory]
        missing = sum(self._file(*pair).name not in cached for pair in wanted)
        return missing * statistics.median(self._seconds)

    def _file(self, image: CaptionedImage, size: Size) -> Path:
        """Where the latents are or will be. Those made in tiles differ from whole ones, and take their place only where these are missing."""
        whole = self.cache.file(image, size, self.vae.dtype)
        return whole if not self.tile or whole.exists() else self.cache.file(image, size, self.vae.dtype, self.tile)

    def _use_less_memory(self, size: Size) -> Text | None:
        factor = downscaling(self.vae.config)
        if not (tile := smaller_tile(self.tile, max(size) // factor)):
            return None
        self.tile = tile
        return Text(
            f"Memory ran out while a picture was encoded: from here pictures are encoded in tiles of {tile * factor} pixels. Their latents differ a little at the seams.",
            f"画像のエンコード中にメモリが不足したため、ここから {tile * factor} ピクセルのタイルに分けてエンコードします。継ぎ目の潜在表現がわずかに変わります。",
        )

    def _tensors(self, image: CaptionedImage, size: Size) -> dict[str, Tensor]:
        """The latents that are wanted, by their names in `Latent`: from the cache, else made and put there."""
        file, tensors = self._file(image, size), dict[str, Tensor]()
        if file.exists():
            try:
                tensors = load_file(file)
            except (SafetensorError, OSError):
                file.unlink()  # damaged: made again below
        wanted = ["plain", "flipped"] if self.flip else ["plain"]
        wanted += [_RECOLOURED[name] for name in wanted if self.recolour]
        missing = [name for name in wanted if name not in tensors]
        if missing:
            began = time.monotonic()
            tensors |= self._encode(image, size, missing)
            file.parent.mkdir(parents=True, exist_ok=True)
            writer.write(file, tensors)
            self._seconds.append(time.monotonic() - began)
        return {name: tensors[name] for name in wanted}

    @torch.no_grad()
    def _encode(self, image: CaptionedImage, size: Size, names: list[str]) -> dict[str, Tensor]:
        pixels = _pixels(image.path, size)
        inputs = {"plain": pixels[None], "flipped": pixels.flip(-1)[None]}
        if any(name in _RECOLOURED.values() for name in names):
            generators = [generator(0, "colours", *image.sha256.encode(), k) for k in range(COLOURINGS)]
            variants = torch.stack([recolour(pixels, g) for g in generators])
            inputs |= {"recoloured": variants, "flipped_recoloured": variants.flip(-1)}
        with tiled(self.vae, self.tile):
            latents = {name: torch.cat([to_latents(self.vae, one) for one in inputs[name].split(1)]) for name in names}
        latents = {name: latent if name in _RECOLOURED.values() else latent[0] for name, latent in latents.items()}
        if not all(torch.isfinite(latent).all() for latent in latents.values()):
            title = image.caption or image.path.name
            raise BadInput(
                Text(
                    f"The base cannot encode the picture {title!r}: its latent is not finite. Remove it, or train in fp32.",
                    f"画像 {title!r} をエンコードできません(潜在表現が有限値になりません)。画像を外すか fp32 で学習してください。",
                )
            )
        return latents


def sizes(image: CaptionedImage, size: Size) -> Sizes:
    """What `fit` does to the picture. It crops evenly on both sides, so the mirrored picture's are the same."""
    width, height = size
    scale = max(width / image.width, height / image.height)
    top, left = ((side * scale - cut) / 2 for side, cut in ((image.height, height), (image.width, width)))
    return image.height, image.width, round(top), round(left), height, width


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
