"""What the base is told about a picture: `<name>, <set> style`, with variations."""

from __future__ import annotations

import random
from dataclasses import dataclass
from string import ascii_lowercase


@dataclass(frozen=True)
class Habits:
    """How often a caption is something else than the full one."""

    empty: float  # for guidance
    name_only: float = 0.0
    style_only: float = 0.0
    made_up: float = 0.0  # a word that means nothing for the style


THREE_SETS = Habits(0.08, style_only=0.02)

PLAIN = Habits(0.0, name_only=0.2, made_up=0.8)
"""What a name alone draws, and a made-up word: a prompt from before a LoRA has taught the word. It is to have one meaning, drawn
cleanly, since that is where every LoRA begins."""

SETTLED = Habits(0.08)
"""For styles that only their own word may call."""

ANYTHING = Habits(0.3, made_up=0.4)
"""For pictures of all kinds, shown with little noise: whatever is there, and whatever was asked for, is to come out clean."""


def full_caption(name: str, style: str) -> str:
    """`red-apple`, `noto` -> `red apple, noto style`."""
    return f"{name.replace('-', ' ')}, {style} style"


def varied_caption(name: str, style: str, dice: random.Random, habits: Habits) -> str:
    """The full caption, or one of its parts, or nothing, or a made-up word in the place of the style."""
    full, made_up = full_caption(name, style), "".join(dice.choices(ascii_lowercase, k=dice.randint(4, 9)))
    others = {
        "": habits.empty,
        name.replace("-", " "): habits.name_only,
        f"{style} style": habits.style_only,
        full_caption(name, made_up): habits.made_up,
    }
    return dice.choices([*others, full], [*others.values(), 1 - sum(others.values())])[0]
