"""Randomness by counter: every draw is a function of (seed, stream, integers), so no generator state is ever stored.

Step k needs nothing but the state and k: a step can be repeated, a run resumed at once, and two processes see the same samples as one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdlora.core.seeding import Stream, key

GOLDEN = (5**0.5 - 1) / 2


def generator(seed: int, stream: Stream, *numbers: int) -> torch.Generator:
    """A CPU generator, so that every device sees the same draws."""
    return torch.Generator().manual_seed(key(seed, stream, *numbers))


@dataclass(frozen=True)
class Draw:
    """The random choices of one training sample, drawn in a fixed order whether or not a setting uses them."""

    timestep: int
    noise: Tensor  # (C, h, w)
    flip: float  # uniform in [0, 1)
    caption: float  # uniform in [0, 1)
    tags: float = 0.0  # uniform in [0, 1)


def noise_level(index: int, seed: int) -> float:
    """In [0, 1): uniform, and any run of samples is spread evenly, since multiples of the golden ratio are a low-discrepancy sequence.

    The ε loss at t = 0 is many times that at t = T, so levels drawn apart make gradient and loss jump with the luck of the draw
    (arXiv 2107.00630, appendix I.1, where it is a batch that is spread).
    """
    first = float(torch.rand((), generator=generator(seed, "levels"), dtype=torch.float64))
    return (first + index * GOLDEN) % 1


def draw(index: int, shape: tuple[int, ...], timesteps: int, seed: int, offset: float = 0.0) -> Draw:
    """Of sample number `index`; `offset` is how much of the noise is one number for a whole channel."""
    g = generator(seed, "sample", index)
    timestep = int(noise_level(index, seed) * timesteps)
    flip, caption = torch.rand(2, generator=g).tolist()
    noise = torch.randn(shape, generator=g)
    channels = torch.randn(shape[0], 1, 1, generator=g)
    tags = float(torch.rand((), generator=g))
    return Draw(timestep, noise + offset * channels if offset else noise, flip, caption, tags)
