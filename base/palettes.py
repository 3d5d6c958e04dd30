"""Palettes: the sets' own drawings with every colour moved, so that colours too are a matter of style.

The treated styles change a surface outright. Real sets differ more quietly: one's yellow is another's peach, its black a
slate. A palette moves the eight corners of the colour cube at random, and its word stands where a LoRA's word would:
`red apple, harbor style`.
"""

from __future__ import annotations

import hashlib

import numpy as np

from base.augment import EDGE
from base.filters import recolour
from base.render import draw, on_white

_LISTED = """
acacia alder almond aspen aster azalea balsam basalt bayou birch bluff bramble brook bryony camellia canyon cedar cinder clover
cove cypress dahlia delta dune ember estuary fern fjord flint foxglove frost gable garnet geyser glade gorge granite grove
harbor hazel heath heather hemlock hollow isle ivy jasper juniper kelp kestrel lagoon larch laurel lichen linden linen lotus
lupin magnolia mallow marble marsh meadow mesa mistral moor moss myrtle nettle oasis onyx opal orchid osprey peat pebble
peony pine plover poplar prairie pumice quarry quartz quince reed reef ridge rill rowan rye saffron sage sedge shale sierra
silt sorrel spruce steppe summit sumac tarn tempest thicket thistle thyme topaz tundra umber valley verbena vetch walnut
willow yarrow yew zephyr
"""
WORDS = _LISTED.split()

SHARE, OVERDRAW = 0.33, 2
FEW = (8, 20)
"""How many inks those palettes have that are limited to some: at least, less than."""

Labels = list[tuple[str, str]]


def _dice(*words: str) -> np.random.Generator:
    """The same for the same words, on every machine."""
    return np.random.default_rng(list(hashlib.sha256(" ".join(words).encode()).digest()))


def corners(word: str) -> np.ndarray:
    """Float32 (2, 2, 2, 3): where this palette puts black, blue, green and so on to white."""
    rng = _dice(word)
    cube = np.stack(np.meshgrid(*[[0.0, 1.0]] * 3, indexing="ij"), -1)
    share = rng.uniform(0.0, 0.45, (2, 2, 2, 1))
    share[1, 1, 1] *= rng.random() < 0.4  # most sets leave white alone
    fade = rng.uniform(0.0, 0.4)
    moved = cube * (1 - share) + rng.random((2, 2, 2, 3)) * share
    grey = moved.mean(-1, keepdims=True)
    return (grey + (moved - grey) * (1 - fade)).astype(np.float32)


def inks(word: str) -> np.ndarray | None:
    """Float32 (k, 3): the only colours of this palette; None for every other palette, which has all."""
    rng = _dice(word, "inks")
    if rng.random() < 0.5:
        return None
    cube = np.concatenate([np.array([[0, 0, 0], [1, 1, 1]]), rng.random((rng.integers(*FEW) - 2, 3))])
    return recolour(cube[None].astype(np.float32), corners(word))[0]


def in_palette(rgba: np.ndarray, word: str) -> np.ndarray:
    """uint8 RGBA (h, w, 4) -> uint8 RGB on white."""
    colour, cover = rgba[..., :3].astype(np.float32) / 255, rgba[..., 3:].astype(np.float32) / 255
    colour, few = recolour(colour, corners(word)), inks(word)
    if few is not None:
        colour = few[((colour[..., None, :] - few) ** 2).sum(-1).argmin(-1)]
    return np.rint(np.clip(colour * cover + 1 - cover, 0, 1) * 255).astype(np.uint8)


def any_palette(rgba: np.ndarray, *words: str) -> np.ndarray:
    """The picture as it is, or in one of the palettes, as these words have it."""
    rng = _dice(*words)
    return on_white(rgba) if rng.random() < 0.5 else in_palette(rgba, WORDS[rng.integers(len(WORDS))])


def palette_pictures(icons: dict[str, dict], names: list[str]) -> tuple[np.ndarray, Labels]:
    """(uint8 RGB (N, 64, 64, 3), the (name, style) of each): every palette on a third of the names of one set."""
    labels = [(name, word) for word in WORDS for name in names if _is_taught(word, name)]
    return in_palettes(icons, labels), labels


def untaught(names: list[str]) -> Labels:
    """The (name, palette) that are never taught, one a palette: what was understood of a palette shows there."""
    listed = [[name for name in names if not _is_taught(word, name)] for word in WORDS]
    return [(others[_dice(word).integers(len(others))], word) for word, others in zip(WORDS, listed, strict=True)]


def _is_taught(word: str, name: str) -> bool:
    return bool(_dice(word, name).random() < SHARE)


def in_palettes(icons: dict[str, dict], labels: Labels) -> np.ndarray:
    """uint8 RGB (N, 64, 64, 3) of these names in these palettes."""
    drawn = {name: draw(icons[name], EDGE * OVERDRAW) for name in dict(labels)}
    small = (EDGE, OVERDRAW, EDGE, OVERDRAW, 3)
    pictures = [in_palette(drawn[name], word).reshape(small).astype(np.float32).mean((1, 3)) for name, word in labels]
    return np.rint(np.stack(pictures)).astype(np.uint8)
