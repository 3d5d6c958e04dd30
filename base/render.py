"""Icons to pictures: SVG bodies drawn by resvg, kept as one uint8 array a set in the work folder."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

MARGIN = 0.04
"""Share of the edge left free on every side, so that shifts and zooms stay inside the picture."""


def draw(icon: dict, edge: int, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """One icon as uint8 RGBA (edge, edge, 4); `shift` is (right, down) as shares of the edge."""
    side = max(icon["width"], icon["height"]) / (1 - 2 * MARGIN) / zoom
    left = icon["left"] - (side - icon["width"]) / 2 - shift[0] * side
    top = icon["top"] - (side - icon["height"]) / 2 - shift[1] * side
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{edge}" height="{edge}" viewBox="{left} {top} {side} {side}">{icon["body"]}</svg>'
    )
    data = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=edge, height=edge))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def draw_set(icons: dict[str, dict], names: list[str], edge: int, file: Path) -> np.ndarray:
    """uint8 RGBA (N, edge, edge, 4) in the order of `names`; drawn once, then read back from `file`."""
    if file.exists():
        pictures = np.load(file, allow_pickle=False)
        if pictures.shape == (len(names), edge, edge, 4):
            return pictures
    pictures = np.stack([draw(icons[name], edge) for name in names])
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp.npy")
    np.save(temporary, pictures, allow_pickle=False)
    os.replace(temporary, file)
    return pictures


def draw_exact(icons: dict[str, dict], names: list[str], edge: int) -> np.ndarray:
    """uint8 RGB (N, edge, edge, 3) of these icons as they are, on white."""
    return on_white(np.stack([draw(icons[name], edge) for name in names]))


def on_white(rgba: np.ndarray) -> np.ndarray:
    """uint8 RGBA (..., 4) -> uint8 RGB (..., 3) composited on white."""
    colour = rgba[..., :3].astype(np.float32)
    cover = rgba[..., 3:].astype(np.float32) / 255
    return np.rint(colour * cover + 255 * (1 - cover)).astype(np.uint8)
