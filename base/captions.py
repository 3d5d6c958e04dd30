"""What the base is told about a picture: `<name>, <set> style`, with variations."""

from __future__ import annotations

import random
from string import ascii_lowercase

EMPTY, NAME_ONLY, STYLE_ONLY, MADE_UP = 0.08, 0.04, 0.02, 0.04


def full_caption(name: str, style: str) -> str:
    """`red-apple`, `noto` -> `red apple, noto style`."""
    return f"{name.replace('-', ' ')}, {style} style"


def varied_caption(name: str, style: str, dice: random.Random, settled: bool = False) -> str:
    """The full caption, or one of its parts, or (for guidance) nothing, or with a word that means nothing for the style.

    The last is what a user writes before a LoRA has taught the word: any of the three sets, cleanly drawn, is then
    right. `settled` is for styles that only their own word may call: whole or nothing.
    """
    roll = dice.random()
    if roll < EMPTY:
        return ""
    if settled:
        return full_caption(name, style)
    if roll < EMPTY + NAME_ONLY:
        return name.replace("-", " ")
    if roll < EMPTY + NAME_ONLY + STYLE_ONLY:
        return f"{style} style"
    if roll < EMPTY + NAME_ONLY + STYLE_ONLY + MADE_UP:
        return full_caption(name, "".join(dice.choices(ascii_lowercase, k=dice.randint(4, 9))))
    return full_caption(name, style)
