"""What the base is told about a picture: `<name>, <set> style`, with variations."""

from __future__ import annotations

import random

EMPTY, NAME_ONLY, STYLE_ONLY = 0.08, 0.04, 0.02


def full_caption(name: str, style: str) -> str:
    """`red-apple`, `noto` -> `red apple, noto style`."""
    return f"{name.replace('-', ' ')}, {style} style"


def varied_caption(name: str, style: str, dice: random.Random) -> str:
    """The full caption, or one of its parts, or (for guidance) nothing."""
    roll = dice.random()
    if roll < EMPTY:
        return ""
    if roll < EMPTY + NAME_ONLY:
        return name.replace("-", " ")
    if roll < EMPTY + NAME_ONLY + STYLE_ONLY:
        return f"{style} style"
    return full_caption(name, style)
