"""FxEmoji under the names that the base knows: a set for measuring LoRAs, never trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from base.fetch import icons_of
from base.names import NAMES

_OTHER_NAMES = {
    "cat": "catside", "cat-face": "cat", "dog": "dogside", "dog-face": "dog", "mouse": "mouseside", "mouse-face": "mouse",
    "pig": "pigside", "pig-face": "pig", "tiger": "tigerside", "tiger-face": "tiger", "rabbit": "bunnyside",
    "rabbit-face": "bunny", "wolf": "wolfface", "hot-pepper": "chilipepper", "eggplant": "aubergine",
    "ear-of-corn": "earofmaize", "pizza": "sliceofpizza", "locked": "lock", "high-voltage": "bolt", "mobile-phone": "cellphone",
    "gem-stone": "gem", "wrapped-gift": "present", "racing-car": "racecar", "moai": "moyai", "santa-claus": "fatherchristmas",
    "evergreen-tree": "evergreen", "castle": "europeancastle", "sun": "whitesun", "blue-heart": "heartblue",
    "green-heart": "heartgreen", "purple-heart": "heartpurple", "backpack": "schoolsatchel", "t-shirt": "mansshirt",
    "scissors": "blackscissors", "laptop": "personalcomputer", "basketball": "basketballandhoop",
}  # fmt: skip


def fx_icons(work: Path) -> dict[str, dict]:
    """Taught name -> FxEmoji's icon of it, where it has one."""
    icons = icons_of("fxemoji", work)
    theirs = {name: _OTHER_NAMES.get(name, name.replace("-", "")) for name in NAMES}
    swapped = {"cat-face", "dog-face", "mouse-face", "pig-face", "tiger-face"}  # the glued name is the face's
    assert all(theirs[n] != n.replace("-", "") for n in swapped if n in theirs)
    return {name: icons[their] for name, their in theirs.items() if their in icons}


def evenly(count: int, wanted: int) -> np.ndarray:
    """`wanted` indices spread over `count` things."""
    return np.linspace(0, count - 1, wanted).astype(int)
