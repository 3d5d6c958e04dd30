"""Invented pictures: outlines, strokes, flat shapes and dots on coloured grounds.

The VAE sees a few of them so that it also draws line styles and grounds that no emoji set has.
"""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
_OVERDRAW = 4  # drawn this many times larger, then reduced: smooth edges


def synthetic_picture(seed: int, edge: int) -> np.ndarray:
    """uint8 RGB (edge, edge, 3); the same seed gives the same picture."""
    rng = random.Random(seed)
    big = edge * _OVERDRAW
    ground = (255, 255, 255) if rng.random() < 0.4 else _colour(rng)
    picture = Image.new("RGB", (big, big), ground)
    pen = ImageDraw.Draw(picture)
    few_inks = [_colour(rng) for _ in range(rng.randint(1, 4))] + [(0, 0, 0)] * rng.randint(0, 2)
    outline = rng.choice([None, None, (0, 0, 0), rng.choice(few_inks)])
    width = int(big * rng.uniform(0.008, 0.045))
    for _ in range(rng.randint(2, 12)):
        _shape(pen, rng, big, rng.choice(few_inks), outline, max(width, 2))
    return np.asarray(picture.resize((edge, edge), Image.Resampling.LANCZOS))


def _colour(rng: random.Random) -> Colour:
    if rng.random() < 0.15:
        return (rng.randrange(256),) * 3
    return (rng.randrange(256), rng.randrange(256), rng.randrange(256))


def _shape(
    pen: ImageDraw.ImageDraw, rng: random.Random, big: int, fill: Colour, outline: Colour | None, width: int
) -> None:
    x, y = rng.uniform(0, big), rng.uniform(0, big)
    w, h = (big * rng.uniform(0.04, 0.55) for _ in range(2))
    box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    kind = rng.randrange(7)
    if kind == 0:
        pen.ellipse(box, fill=fill, outline=outline, width=width)
    elif kind == 1:
        pen.rounded_rectangle(box, radius=min(w, h) * rng.uniform(0, 0.5), fill=fill, outline=outline, width=width)
    elif kind == 2:
        points = [(x + rng.uniform(-w, w), y + rng.uniform(-h, h)) for _ in range(rng.randint(3, 7))]
        pen.polygon(points, fill=fill)
        pen.line(points + points[:1], fill=outline or fill, width=width, joint="curve")
    elif kind == 3:
        points = [(x + rng.uniform(-w, w), y + rng.uniform(-h, h)) for _ in range(rng.randint(2, 5))]
        pen.line(points, fill=fill, width=width, joint="curve")
    elif kind == 4:
        pen.arc(box, rng.uniform(0, 360), rng.uniform(0, 360), fill=fill, width=width)
    elif kind == 5:
        pen.ellipse(box, outline=fill, width=width)
    else:
        _dots(pen, rng, box, fill, width)


def _dots(
    pen: ImageDraw.ImageDraw, rng: random.Random, box: tuple[float, float, float, float], fill: Colour, width: int
) -> None:
    step = width * rng.uniform(2, 4)
    radius = step * rng.uniform(0.15, 0.4)
    y = box[1]
    while y < box[3]:
        x = box[0]
        while x < box[2]:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
            x += step
        y += step
