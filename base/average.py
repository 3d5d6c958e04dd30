"""`python -m base.average FIRST SECOND --out FOLDER`: the base half-way between two, one of which was trained on from the other.

Its drawings can be better than those of either end: arXiv 2203.05482 has the idea. What it gave here is in the model card.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

TRAINED = ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")
"""The files of an exported base that training on changes; VAE and tokenizer stay the first one's."""


def write_average(first: Path, second: Path, folder: Path) -> None:
    """Write the mean of two exported bases as a third, rounded to fp16 once.

    Raises:
        SystemExit: the two do not have the same layers.
    """
    means = {}
    for name in TRAINED:
        ours, theirs = load_file(first / name), load_file(second / name)
        if {n: t.shape for n, t in ours.items()} != {n: t.shape for n, t in theirs.items()}:
            raise SystemExit(f"{first / name} and {second / name} do not have the same layers.")
        means[name] = {n: ours[n].float().lerp(theirs[n].float(), 0.5).half() for n in ours}
    shutil.copytree(first, folder)
    for name, mean in means.items():
        save_file(mean, folder / name, metadata={"format": "pt"})
        (folder / name).chmod(0o644)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="base.average", description=__doc__)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    chosen = parser.parse_args(argv)
    write_average(chosen.first, chosen.second, chosen.out)


if __name__ == "__main__":
    main()
