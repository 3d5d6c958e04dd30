"""`python -m base.sheet`: 48 prompts in three styles as one picture, for the model card and for the eye."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from base.captions import full_caption
from base.names import NAMES, TRAINING_SETS
from base.sampling import pipeline, sample

PROMPTS, COLUMNS = 48, 16


def sheet(pictures: np.ndarray, columns: int, gap: int = 4) -> Image.Image:
    """uint8 RGB (N, h, w, 3) row by row, on white."""
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    page = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for i, picture in enumerate(pictures):
        page.paste(Image.fromarray(picture), (gap + i % columns * (width + gap), gap + i // columns * (height + gap)))
    return page


def sample_sheet(base: Path, seed: int) -> tuple[Image.Image, list[str]]:
    """(the sheet, the names on it): every fifth name or so, not chosen by eye; three rows (one a style) for 16 names."""
    names = [NAMES[i * len(NAMES) // PROMPTS] for i in range(PROMPTS)]
    rows = [names[i : i + COLUMNS] for i in range(0, PROMPTS, COLUMNS)]
    prompts = [full_caption(name, style) for row in rows for style in TRAINING_SETS for name in row]
    return sheet(sample(pipeline(base), prompts, seed), COLUMNS), names


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="base.sheet", description=__doc__)
    root = Path(__file__).parents[1]
    parser.add_argument("--base", type=Path, default=root / "sdlora" / "bundled" / "emoji")
    parser.add_argument("--out", type=Path, default=root / "base" / "samples.webp")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    chosen = parser.parse_args(argv)
    torch.set_num_threads(chosen.threads)
    page, names = sample_sheet(chosen.base, chosen.seed)
    page.save(chosen.out, quality=88, method=6)
    print(", ".join(names))


if __name__ == "__main__":
    main()
