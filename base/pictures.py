"""`python -m base.pictures`: the bundled demo set, the base's own drawings as blueprints.

Each drawing becomes white lines on deep blue with a faint grid: one style that nobody mistakes, and that the base
itself does not know.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from base.captions import full_caption
from base.sampling import pipeline, sample

BUNDLED = Path(__file__).parents[1] / "sdlora" / "bundled"
TRIGGER = "blueprint"
EDGE = 192
INK, PAPER, GRID = (238, 246, 255), (22, 62, 138), (52, 96, 170)
_LISTED = (
    "red-apple banana pear strawberry mushroom sunflower cactus tulip house castle rocket sailboat "
    "taxi helicopter anchor light-bulb camera hamburger doughnut umbrella balloon bell star key"
)
SUBJECTS = _LISTED.split()


def blueprint(picture: np.ndarray) -> Image.Image:
    """uint8 RGB (h, w, 3) -> a line drawing in white on blue, EDGE px wide."""
    smooth = Image.fromarray(picture).resize((EDGE, EDGE), Image.Resampling.BICUBIC).filter(ImageFilter.MedianFilter(5))
    smooth = smooth.filter(ImageFilter.GaussianBlur(1.2))
    colour = np.asarray(smooth).astype(np.float32) / 255
    dy, dx = np.gradient(colour, axis=(0, 1))
    steep = np.sqrt((dx**2 + dy**2).max(-1))
    line = np.clip(steep * 16 - 0.35, 0, 1)[..., None]
    shade = np.clip(1 - colour.mean(-1, keepdims=True), 0, 1) * 0.16  # a breath of white where the drawing is dark
    page = _paper()
    page = page * (1 - shade) + np.array(INK, np.float32) * shade
    page = page * (1 - line) + np.array(INK, np.float32) * line
    return Image.fromarray(np.rint(page).astype(np.uint8))


def _paper() -> np.ndarray:  # float32 (EDGE, EDGE, 3)
    page = np.full((EDGE, EDGE, 3), PAPER, np.float32)
    page[::24] = GRID
    page[:, ::24] = GRID
    return page


def make_set(base: Path, folder: Path, seed: int) -> None:
    """24 pictures and captions, replacing what `folder` holds."""
    styles = ["twemoji", "fluent", "noto"]
    prompts = [full_caption(name, styles[i % 3]) for i, name in enumerate(SUBJECTS)]
    drawn = sample(pipeline(base), prompts, seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, picture in zip(SUBJECTS, drawn, strict=True):
        few = blueprint(picture).quantize(32, method=Image.Quantize.MEDIANCUT)
        few.save(folder / f"{name}.png", optimize=True)
        (folder / f"{name}.txt").write_text(full_caption(name, TRIGGER) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="base.pictures", description=__doc__)
    parser.add_argument("--base", type=Path, default=BUNDLED / "emoji")
    parser.add_argument("--out", type=Path, default=BUNDLED / "pictures")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    chosen = parser.parse_args(argv)
    torch.set_num_threads(chosen.threads)
    make_set(chosen.base, chosen.out, chosen.seed)


if __name__ == "__main__":
    main()
