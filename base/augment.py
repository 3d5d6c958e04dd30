"""Augmented pictures for training the VAE: icons moved, zoomed, recoloured or outlined, and some synthetic ones."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from base.synthetic import synthetic_picture

EDGE = 64
"""Pixels of a side of every picture that the base trains on."""

SHARE_SYNTHETIC = 0.10
SHARE_OUTLINED = 0.15
SHARE_GROUND = 0.25
SHARE_RECOLOURED = 0.20
SHARE_PERMUTED = 0.05
SHARE_EXACT = 0.50


class VaeBatches:
    """Batches for the VAE as a pure function of (seed, step).

    `sharp` is uint8 RGBA (N, 64, 64, 4), drawn at the size used; `large` is (N, 96, 96, 4), to be zoomed.
    """

    def __init__(self, sharp: np.ndarray, large: np.ndarray, synthetic: np.ndarray, seed: int):
        self.sharp, self.large, self.synthetic, self.seed = sharp, large, synthetic, seed

    def batch(self, step: int, size: int) -> Tensor:  # (size, 3, 64, 64) in -1..1
        rng = np.random.default_rng((self.seed, step))
        return torch.stack([self._one(rng) for _ in range(size)]) * 2 - 1

    def _one(self, rng: np.random.Generator) -> Tensor:  # (3, 64, 64) in 0..1
        if rng.random() < SHARE_SYNTHETIC:
            picture = _unit(self.synthetic[rng.integers(len(self.synthetic))])
        else:
            picture = self._real(rng)
        if rng.random() < 0.5:
            picture = picture.flip(2)
        return _recolour(picture, rng)

    def _real(self, rng: np.random.Generator) -> Tensor:
        index = rng.integers(len(self.sharp))
        if rng.random() < SHARE_EXACT:
            rgba = _unit(self.sharp[index])
            rgba = torch.roll(rgba, tuple(rng.integers(-2, 3, 2).tolist()), (1, 2))
        else:
            rgba = _zoom(_unit(self.large[index]), rng)
        colour, cover = rgba[:3], rgba[3:]
        ground = torch.ones(3, 1, 1)
        if rng.random() < SHARE_GROUND:
            ground = torch.tensor(rng.random(3), dtype=torch.float32).view(3, 1, 1)
        picture = colour * cover + ground * (1 - cover)
        return _outline(picture, rng) if rng.random() < SHARE_OUTLINED else picture


def synthetic_set(count: int, seed: int) -> np.ndarray:
    """uint8 RGB (count, 64, 64, 3)."""
    return np.stack([synthetic_picture(seed * 1_000_000 + i, EDGE) for i in range(count)])


def _unit(picture: np.ndarray) -> Tensor:  # (C, h, w) in 0..1
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 255


def _zoom(rgba: Tensor, rng: np.random.Generator) -> Tensor:
    """A window of 0.55 to 1.25 of the picture's edge, somewhere over it, brought to 64 px."""
    edge = rgba.shape[1]
    window = int(edge * rng.uniform(0.55, 1.25))
    pad = max(0, window - edge) + edge // 12
    padded = F.pad(rgba, (pad,) * 4)
    y, x = rng.integers(0, edge + 2 * pad - window + 1, 2)
    cut = padded[None, :, y : y + window, x : x + window]
    cut = torch.cat([cut[:, :3] * cut[:, 3:], cut[:, 3:]], 1)  # premultiplied: no fringe of the hidden colour
    small = F.interpolate(cut, (EDGE, EDGE), mode="bilinear", antialias=True, align_corners=False)[0].clamp(0, 1)
    return torch.cat([small[:3] / small[3:].clamp_min(1e-3), small[3:]]).clamp(0, 1)


def _outline(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """Dark lines where colours meet: the look of outlined emoji and of drawn line art."""
    reach = int(rng.choice([3, 3, 5]))
    high = F.max_pool2d(picture[None], reach, 1, reach // 2)[0]
    low = -F.max_pool2d(-picture[None], reach, 1, reach // 2)[0]
    line = ((high - low).amax(0, keepdim=True) * 2.5 - 0.5).clamp(0, 1)
    ink = torch.tensor(rng.random(3) * rng.choice([0.0, 0.0, 0.4]), dtype=torch.float32).view(3, 1, 1)
    if rng.random() < 0.3:  # line drawing alone, without the fill
        picture = (
            torch.ones_like(picture) if rng.random() < 0.5 else picture.mean((1, 2), keepdim=True).expand_as(picture)
        )
    return picture * (1 - line) + ink * line


def _recolour(picture: Tensor, rng: np.random.Generator) -> Tensor:
    if rng.random() < SHARE_RECOLOURED:
        gain = torch.tensor(rng.uniform(0.7, 1.0, 3), dtype=torch.float32).view(3, 1, 1)
        picture = picture * gain + (1 - gain) * float(rng.random())
    if rng.random() < SHARE_PERMUTED:
        picture = picture[torch.from_numpy(rng.permutation(3))]
        picture = 1 - picture if rng.random() < 0.3 else picture
    return picture
