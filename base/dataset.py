"""The drawn pictures of the recipe, from the work folder: what the VAE sees, what the UNet sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from base.augment import EDGE, VaeBatches, synthetic_set
from base.fetch import icons_of
from base.names import TRAINING_SETS
from base.render import draw_set

LARGE = 96
SYNTHETIC = 3000


def vae_batches(work: Path, seed: int) -> VaeBatches:
    """Every picture of the three sets (people and flags too: the VAE needs colours), and some synthetic ones."""
    sharp, large = [], []
    for word, package in TRAINING_SETS.items():
        icons = icons_of(package, work)
        names = sorted(n for n in icons if "skin-tone" not in n)
        sharp.append(draw_set(icons, names, EDGE, work / "drawn" / f"{word}-all-{EDGE}.npy"))
        large.append(draw_set(icons, names, LARGE, work / "drawn" / f"{word}-all-{LARGE}.npy"))
    return VaeBatches(np.concatenate(sharp), np.concatenate(large), synthetic_set(SYNTHETIC, seed), seed)
