"""`python -m bench.preflight`: the estimate of a run beside what the run then took, on five kinds of settings.

Each run is a job of its own in a worker process, as users have it. Time is the worker's from its start to its end, memory the
process' largest resident size (on a GPU what the estimate says of the GPU's is not compared).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from sdlora import config
from sdlora.core.environment import child_environment
from sdlora.core.events import Follower
from sdlora.data import import_pictures
from sdlora.jobs import store
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.spec import Outcome
from sdlora.models.bases import EXAMPLE
from tests.layouts import make_folder

SETTINGS: dict[str, dict[str, Any]] = {
    "attention, rank 4": {"lora.rank": 4, "lora.targets": "attention", "train.batch_size": 1},
    "rank 32, batch of 4": {"lora.rank": 32, "train.batch_size": 4},
    "both parts, accumulated twice": {"train.text_encoder_lr": 1e-4, "train.gradient_accumulation": 2},
    "many shapes, checkpointing": {"train.gradient_checkpointing": True, "train.batch_size": 2},
    "SDXL's layout, tiny": {"train.batch_size": 2},
}


@dataclass(frozen=True)
class Measured:
    seconds: float
    peak_bytes: int
    file_bytes: int


def pictures_of_many_shapes(folder: Path) -> Path:
    """The bundled pictures, cut to twelve shapes."""
    folder.mkdir()
    for k, file in enumerate(sorted(EXAMPLE.glob("*.png"))):
        with Image.open(file) as picture:
            side = min(picture.size)
            picture.crop((0, 0, side, max(64, side - 8 * (k % 12)))).save(folder / file.name)
    return folder


def run(workspace: Workspace, pictures: Path, base: str, values: dict[str, Any]) -> tuple[Follower, Measured]:
    dataset = import_pictures([pictures], workspace.datasets)
    settings = config.from_values({"model.base": base, "sample.steps": 10, "train.seed": 1, **values})
    paths: JobPaths = workspace.job(store.create(workspace, dataset, settings, "bench", "").id)
    with open(paths.folder / "bench.log", "wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "sdlora.processes.worker", str(paths.folder)],
            env={**os.environ, **child_environment()},
            stdout=log,
            stderr=log,
        )
        _, code, used = os.wait4(worker.pid, 0)
    outcome = Outcome.read(paths)
    if outcome is None or code:
        raise SystemExit((paths.folder / "bench.log").read_text()[-3000:])
    follower = Follower(paths.events)
    follower.poll()
    file = paths.folder / outcome.file
    return follower, Measured(outcome.seconds, used.ru_maxrss * 1024, file.stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    print("| settings | estimated | took | time | memory | file |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        workspace = Workspace(root / "workspace")
        shapes = pictures_of_many_shapes(root / "shapes")
        for name, values in SETTINGS.items():
            tiny = name.startswith("SDXL")
            base = str(make_folder(root / "sdxl", "sdxl")) if tiny else "emoji"
            pictures = shapes if "shapes" in name else EXAMPLE
            follower, real = run(workspace, pictures, base, {"train.steps": options.steps, **values})
            told = follower.estimate
            assert told is not None
            off = [
                f"{100 * (mine / true - 1):+.0f} %"
                for mine, true in (
                    (told.seconds, real.seconds),
                    (told.peak_bytes, real.peak_bytes),
                    (told.file_bytes, real.file_bytes),
                )
            ]
            print(
                f"| {name} | {told.text.en} | {real.seconds:.0f} s, {real.peak_bytes / 1e9:.2f} GB, "
                f"{real.file_bytes / 1e6:.2f} MB | {off[0]} | {off[1]} | {off[2]} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
