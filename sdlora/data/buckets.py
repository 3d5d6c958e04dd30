"""Aspect-ratio buckets: the size that a picture is trained at, never larger than the picture itself."""

from __future__ import annotations


def bucket(width: int, height: int, side: int, unit: int) -> tuple[int, int]:
    """Training size (width, height) of a picture: its own shape, about side × side pixels of area, in multiples of `unit`.

    Each side is rounded down, so that what does not fit is cropped and nothing is enlarged; a side shorter than
    one unit gets one unit.
    """
    scale = min(1.0, side / (width * height) ** 0.5)
    return max(unit, int(width * scale) // unit * unit), max(unit, int(height * scale) // unit * unit)
