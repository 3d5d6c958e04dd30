"""Invented pictures: outlines, strokes, flat shapes and dots on coloured grounds.

The VAE sees a few of them so that it also draws line styles and grounds that no emoji set has.
"""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw

_OVERDRAW = 4  # drawn this many times larger, then reduced: smooth edges


def invented_picture(seed: int, edge: int) -> np.ndarray:
    """uint8 RGB (edge, edge, 3); the same seed gives the same picture."""
    dice = random.Random(seed)
    big = edge * _OVERDRAW
    ground = (255, 255, 255) if dice.random() < 0.4 else _colour(dice)
    picture = Image.new("RGB", (big, big), ground)
    pen = ImageDraw.Draw(picture)
    few_inks = [_colour(dice) for _ in range(dice.randint(1, 4))] + [(0, 0, 0)] * dice.randint(0, 2)
    outline = dice.choice([None, None, (0, 0, 0), dice.choice(few_inks)])
    width = int(big * dice.uniform(0.008, 0.045))
    for _ in range(dice.randint(2, 12)):
        _shape(pen, dice, big, dice.choice(few_inks), outline, max(width, 2))
    return np.asarray(picture.resize((edge, edge), Image.Resampling.LANCZOS))


def _colour(dice: random.Random) -> tuple[int, int, int]:
    if dice.random() < 0.15:
        return (dice.randrange(256),) * 3
    return (dice.randrange(256), dice.randrange(256), dice.randrange(256))


def _shape(pen: ImageDraw.ImageDraw, dice: random.Random, big: int, fill, outline, width: int) -> None:
    x, y = dice.uniform(0, big), dice.uniform(0, big)
    w, h = (big * dice.uniform(0.04, 0.55) for _ in range(2))
    box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    kind = dice.randrange(7)
    if kind == 0:
        pen.ellipse(box, fill=fill, outline=outline, width=width)
    elif kind == 1:
        pen.rounded_rectangle(box, radius=min(w, h) * dice.uniform(0, 0.5), fill=fill, outline=outline, width=width)
    elif kind == 2:
        points = [(x + dice.uniform(-w, w), y + dice.uniform(-h, h)) for _ in range(dice.randint(3, 7))]
        pen.polygon(points, fill=fill)
        pen.line(points + points[:1], fill=outline or fill, width=width, joint="curve")
    elif kind == 3:
        points = [(x + dice.uniform(-w, w), y + dice.uniform(-h, h)) for _ in range(dice.randint(2, 5))]
        pen.line(points, fill=fill, width=width, joint="curve")
    elif kind == 4:
        pen.arc(box, dice.uniform(0, 360), dice.uniform(0, 360), fill=fill, width=width)
    elif kind == 5:
        pen.ellipse(box, outline=fill, width=width)
    else:
        _dots(pen, dice, box, fill, width)


def _dots(
    pen: ImageDraw.ImageDraw, dice: random.Random, box: tuple[float, float, float, float], fill, width: int
) -> None:
    step = width * dice.uniform(2, 4)
    radius = step * dice.uniform(0.15, 0.4)
    y = box[1]
    while y < box[3]:
        x = box[0]
        while x < box[2]:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
            x += step
        y += step
