"""Captions of training pictures: `<name>, <set> style`, with dropout of either part."""

from __future__ import annotations

import random
from dataclasses import dataclass
from string import ascii_lowercase


@dataclass(frozen=True)
class CaptionMix:
    """How often a caption is something else than the full one."""

    empty: float  # for guidance
    name_only: float = 0.0
    style_only: float = 0.0
    made_up: float = 0.0  # a word that means nothing for the style


THREE_SETS = CaptionMix(0.08, style_only=0.02)

PLAIN = CaptionMix(0.0, name_only=0.2, made_up=0.8)
"""What a name alone draws, and a made-up word: a prompt from before a LoRA has taught the word. It is to have one meaning, drawn
cleanly, since that is where every LoRA begins."""

SETTLED = CaptionMix(0.08)
"""For styles that only their own word may call."""

ANYTHING = CaptionMix(0.3, made_up=0.4)
"""For pictures of all kinds, shown with little noise: whatever is there, and whatever was asked for, is to come out clean."""


def full_caption(name: str, style: str) -> str:
    """`red-apple`, `noto` -> `red apple, noto style`."""
    return f"{name.replace('-', ' ')}, {style} style"


def vary_caption(name: str, style: str, rng: random.Random, mix: CaptionMix) -> str:
    """The full caption, or one of its parts, or nothing, or a made-up word in the place of the style."""
    full, made_up = full_caption(name, style), "".join(rng.choices(ascii_lowercase, k=rng.randint(4, 9)))
    others = {
        "": mix.empty,
        name.replace("-", " "): mix.name_only,
        f"{style} style": mix.style_only,
        full_caption(name, made_up): mix.made_up,
    }
    return rng.choices([*others, full], [*others.values(), 1 - sum(others.values())])[0]
