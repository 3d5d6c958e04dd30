"""Aspect-ratio buckets: the size that each picture is trained at, and how often a run of batches shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass


def bucket(width: int, height: int, side: int, unit: int) -> tuple[int, int]:
    """Training size (width, height) of a picture: its own shape, about side × side pixels of area, in multiples of `unit`.

    Each side is rounded down, so that what does not fit is cropped and nothing is enlarged; a side shorter than
    one unit gets one unit.
    """
    scale = min(1.0, side / (width * height) ** 0.5)
    return max(unit, int(width * scale) // unit * unit), max(unit, int(height * scale) // unit * unit)


def training_size(width: int, height: int, side: int, unit: int, buckets: bool) -> tuple[int, int]:
    """The same with `data.buckets`; without it, the middle square of every picture at `side`."""
    return bucket(width, height, side, unit) if buckets else (side, side)


def whole_units(pixels: int, unit: int) -> int:
    """A side in whole multiples of what the denoiser can halve, at least one."""
    return max(unit, pixels // unit * unit)


def batches_per_epoch(counts: Iterable[int], batch_size: int) -> int:
    """Batches that show every picture once, each of one shape: `counts` are the pictures of each, and a shape's last batch may be smaller."""
    return sum(-(-count // batch_size) for count in counts)


@dataclass(frozen=True)
class Exposure:
    """How a run shows its pictures."""

    times: float  # that each picture is seen
    shapes: int  # different training sizes
    pictures_per_batch: float  # on average; less than the batch size where shapes have few pictures


def exposure(shapes: Sequence[Hashable], batch_size: int, batches: int) -> Exposure:
    """Of a run of so many batches over pictures of these training sizes; see `train.batches.BatchSampler`."""
    counts = Counter(shapes)
    epoch = batches_per_epoch(counts.values(), batch_size)
    return Exposure(batches / epoch, len(counts), len(shapes) / epoch)
