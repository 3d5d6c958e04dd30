"""Colour and surface treatments, as plain arithmetic on pictures: what `treated.py` makes further styles of.

Each takes colours (h, w, 3) and cover (h, w, 1), floats in 0..1, and gives a finished picture (h, w, 3).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

Filter = Callable[[np.ndarray, np.ndarray], np.ndarray]
WHITE = "#ffffff"


def rgb(code: str) -> np.ndarray:
    """`#rrggbb` -> float32 (3,)."""
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], np.float32) / 255


def grey(colour: np.ndarray) -> np.ndarray:  # (h, w, 1)
    return colour @ np.array([[0.299], [0.587], [0.114]], np.float32)


def composite(colour: np.ndarray, cover: np.ndarray, ground: str = WHITE) -> np.ndarray:
    return colour * cover + rgb(ground) * (1 - cover)


def plain(ground: str = WHITE) -> Filter:
    return lambda colour, cover: composite(colour, cover, ground)


def tone_ramp(*codes: str, ground: str = WHITE) -> Filter:
    """Brightness alone, as a ramp through these colours, darkest first."""
    ramp = np.stack([rgb(code) for code in codes])

    def treat(colour: np.ndarray, cover: np.ndarray) -> np.ndarray:
        place = grey(colour)[..., 0] * (len(ramp) - 1)
        below = np.clip(place.astype(int), 0, len(ramp) - 2)
        share = (place - below)[..., None]
        return composite(ramp[below] * (1 - share) + ramp[below + 1] * share, cover, ground)

    return treat


def nearest_ink(*codes: str, ground: str = WHITE) -> Filter:
    """Every colour replaced by the nearest of these."""
    inks = np.stack([rgb(code) for code in codes])

    def treat(colour: np.ndarray, cover: np.ndarray) -> np.ndarray:
        far = ((colour[..., None, :] - inks) ** 2).sum(-1)
        return composite(inks[far.argmin(-1)], cover, ground)

    return treat


def posterise(*codes: str, ground: str = WHITE) -> Filter:
    """Brightness in equal steps, one colour each, darkest first."""
    inks = np.stack([rgb(code) for code in codes])

    def treat(colour: np.ndarray, cover: np.ndarray) -> np.ndarray:
        step = np.clip((grey(colour)[..., 0] * len(inks)).astype(int), 0, len(inks) - 1)
        return composite(inks[step], cover, ground)

    return treat


def recolour(colour: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Colours (h, w, 3) with the corners of the colour cube moved, and every colour between them along with them.

    `corners` is (2, 2, 2, 3): what [red][green][blue], each 0 or 1, becomes.
    """
    done = np.broadcast_to(corners, (*colour.shape[:2], *corners.shape))
    for channel in (0, 1, 2):  # the first of the cube's axes that is left goes
        share = colour[..., channel].reshape(*colour.shape[:2], *(1,) * (3 - channel))
        done = done[:, :, 0] * (1 - share) + done[:, :, 1] * share
    return done


def tint(code: str, share: float, ground: str = WHITE) -> Filter:
    """Every colour moved towards one by `share`."""
    return lambda colour, cover: composite(colour * (1 - share) + rgb(code) * share, cover, ground)


def multiply(code: str, ground: str = WHITE) -> Filter:
    return lambda colour, cover: composite(colour * rgb(code), cover, ground)


def saturate(by: float, ground: str = WHITE) -> Filter:
    """Colours further from grey (by > 1) or nearer to it."""
    return lambda colour, cover: composite(np.clip(grey(colour) + (colour - grey(colour)) * by, 0, 1), cover, ground)


def rotate_channels(ground: str = WHITE) -> Filter:
    """Red to green to blue to red: everything in a wrong colour, the same one every time."""
    return lambda colour, cover: composite(colour[..., [2, 0, 1]], cover, ground)


def gradient_wash(top: str, bottom: str) -> Filter:
    """A wash over the drawing, from one colour at the top to another at the bottom."""

    def treat(colour: np.ndarray, cover: np.ndarray) -> np.ndarray:
        down = np.linspace(0, 1, len(colour), dtype=np.float32)[:, None, None]
        wash = rgb(top) * (1 - down) + rgb(bottom) * down
        return composite(colour * 0.35 + wash * 0.65 * (0.4 + 0.6 * grey(colour)), cover)

    return treat


def dilate(cover: np.ndarray, share: float) -> np.ndarray:
    """The cover, wider by `share` of the edge."""
    reach = 2 * max(1, round(share * len(cover))) + 1
    picture = Image.fromarray(np.rint(cover[..., 0] * 255).astype(np.uint8))
    softer = picture.filter(ImageFilter.MaxFilter(reach)).filter(ImageFilter.GaussianBlur(1))
    return np.asarray(softer, np.float32)[..., None] / 255


def sticker(border: str, ground: str) -> Filter:
    """Cut out with a broad border, on a coloured ground."""

    def treat(colour: np.ndarray, cover: np.ndarray) -> np.ndarray:
        page = composite(np.broadcast_to(rgb(border), colour.shape), dilate(cover, 0.035), ground)
        return colour * cover + page * (1 - cover)

    return treat


def drop_shadow(shade: str, right: float, down: float, ground: str = WHITE) -> Filter:
    """A hard shadow beside the drawing."""

    def treat(colour: np.ndarray, cover: np.ndarray) -> np.ndarray:
        edge = len(cover)
        shadow_mask = np.roll(cover, (round(down * edge), round(right * edge)), (0, 1))
        page = composite(np.broadcast_to(rgb(shade), colour.shape), shadow_mask, ground)
        return colour * cover + page * (1 - cover)

    return treat


def clay(colour: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Lit from above as if modelled: the edge falls into shade, the upper left shines."""
    mask = Image.fromarray(np.rint(cover[..., 0] * 255).astype(np.uint8))
    height = np.asarray(mask.filter(ImageFilter.GaussianBlur(len(cover) * 0.06)), np.float32) / 255
    dy, dx = np.gradient(height)
    light = np.asarray(np.clip((dx + dy) * len(cover) * 0.09, -0.5, 0.5))[..., None]
    lit = np.where(light > 0, colour + (1 - colour) * light, colour * (1 + light))
    return composite(lit, cover)


def trace_edges(line: str, ground: str, tint: float) -> Filter:
    """Lines where colours meet, on a ground; `tint` is how much of the colours stays."""

    def treat(colour: np.ndarray, cover: np.ndarray) -> np.ndarray:
        dy, dx = np.gradient(composite(colour, cover), axis=(0, 1))
        steep = np.sqrt(dx**2 + dy**2).max(-1, keepdims=True)
        line_mask = np.clip(np.asarray(dilate(np.clip(steep * 5, 0, 1), 0.008)), 0, 1)
        page = composite(colour * tint + rgb(ground) * (1 - tint), cover, ground)
        return page * (1 - line_mask) + rgb(line) * line_mask

    return treat
