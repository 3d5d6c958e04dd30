"""Sheets: many pictures as one, for the model card and for the eye."""

from __future__ import annotations

import numpy as np
from PIL import Image


def sheet(pictures: np.ndarray, columns: int, gap: int = 4) -> Image.Image:
    """uint8 RGB (N, h, w, 3) row by row, on white."""
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    page = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for i, picture in enumerate(pictures):
        page.paste(Image.fromarray(picture), (gap + i % columns * (width + gap), gap + i // columns * (height + gap)))
    return page
