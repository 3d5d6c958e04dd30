"""Half an hour of faults: `python -m bench.soak [--minutes 30]`.

Five jobs in the queue of a really started app, a new one for each that ends; every 5 to 20 seconds something breaks
(`bench.breaking`). At the end every file must be what an unbroken run gave, no process may be left, no temporary file, nothing in the
queue, and the page must answer. As root, the workspace is a small file system of its own, so that the disk can be filled.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.breaking import App, Breaking, relatives, workers
from sdlora import config
from sdlora.core.errors import BadInput
from sdlora.core.safetensors_io.writer import data_section
from sdlora.data import import_pictures
from sdlora.jobs import runner, store
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.spec import Outcome
from tests.conftest import draw_pictures
from tests.tiny import make_base

JOBS = 5  # waiting or running at any time; as many seeds
DISK = "400m"


@dataclass
class Soak:
    """One run of it."""

    place: Workspace
    base: Path
    pictures: Path
    steps: int
    made: dict[str, int] = field(default_factory=dict)  # job -> seed
    open: list[JobPaths] = field(default_factory=list)  # not done yet; shared with `Breaking`
    faults: Counter[str] = field(default_factory=Counter)
    by_hand: Counter[str] = field(default_factory=Counter)  # resumed by a person, by why it had ended
    most_workers: int = 0

    def add(self, seed: int) -> None:
        changes: dict[str, Any] = {
            "model.base": str(self.base),
            "train.steps": self.steps,
            "train.batch_size": 4,
            "train.precision": "fp32",
            "train.state_every": 5,
            "train.save_every": max(1, self.steps // 4),
            "train.sample_every": max(1, self.steps // 2),
            "train.seed": seed,
            "lora.dropout": 0.1,
            "train.text_encoder_lr": 1e-4,
            "sample.steps": 2,
        }
        dataset = import_pictures([self.pictures], self.place.datasets)
        paths = self.place.job(store.create(self.place, dataset, config.from_values(changes)).id)
        if paths.id not in self.made:
            self.made[paths.id] = seed
            self.open.append(paths)

    def run(self, breaking: Breaking, seconds: float) -> None:
        end = time.monotonic() + seconds
        chance, kinds = random.Random(1), breaking.kinds()
        while time.monotonic() < end:
            self.watch(chance.uniform(5, 20))
            while len(self.open) < JOBS:
                self.add(len(self.made) % JOBS)
            name = chance.choice([*kinds, "worker killed", "worker killed"])
            self.faults[name] += kinds[name]()
        while self.open:
            self.watch(1)

    def watch(self, seconds: float) -> None:
        """Wait; resume what waits for a person, as a person would."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.most_workers = max(self.most_workers, len(workers(self.place)))
            for paths in list(self.open):
                self._watch_job(paths)
            time.sleep(0.5)

    def _watch_job(self, paths: JobPaths) -> None:
        state = runner.status(paths)
        if state == "done":
            self.open.remove(paths)
        given_up = state == "interrupted" and runner.attempts_without_progress(paths) >= runner.MAX_ATTEMPTS
        if given_up or state in ("failed", "stopped"):
            outcome = Outcome.read(paths)
            with contextlib.suppress(BadInput):
                runner.resume(paths)
                self.by_hand[outcome.reason.en[:60] or state if outcome else "given up"] += 1


def weights(paths: JobPaths) -> bytes | None:
    outcome = Outcome.read(paths)
    return data_section((paths.folder / outcome.file).read_bytes()) if outcome and outcome.file else None


def unbroken(quiet: Soak) -> dict[int, bytes | None]:
    """What each seed gives when nothing happens."""
    for seed in range(JOBS):
        quiet.add(seed)
    while any(runner.status(paths) in ("queued", "running") for paths in quiet.open):
        runner.start_next(quiet.place)
        time.sleep(0.2)
    return {quiet.made[paths.id]: weights(paths) for paths in quiet.open}


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of its own on `folder`; False where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "sdlora-soak", str(folder)]
    own = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield own
    finally:
        if own:
            subprocess.run(["umount", str(folder)], check=False)


def soak(folder: Path, seconds: float, steps: int) -> dict[str, Any]:
    base, pictures = make_base(folder / "base"), draw_pictures(folder / "pictures", 12)
    began = time.monotonic()
    expected = unbroken(Soak(Workspace(folder / "quiet").make(), base, pictures, steps))
    quiet_seconds = time.monotonic() - began
    with small_disk(folder / "disk") as own_disk:
        place = Workspace(folder / "disk" / "soak").make()
        run, app, began = Soak(place, base, pictures, steps), App(place.root), time.monotonic()
        app.start()
        breaking = Breaking(app, place, base, own_disk, run.open)
        run.run(breaking, seconds)
        minutes = (time.monotonic() - began) / 60
        answers = app.answers()
        app.end()
        jobs = [place.job(id) for id in run.made]
        return {
            "minutes": round(minutes, 1),
            "minutes unbroken": round(quiet_seconds / 60, 1),
            "faults": dict(run.faults),
            "faults in all": sum(run.faults.values()),
            "jobs": len(jobs),
            "workers started": sum(runner.attempts(paths) for paths in jobs),
            "most workers at once": run.most_workers,
            "slowest detection of a killed worker, seconds": round(breaking.slowest_detection, 2),
            "resumed by hand": dict(run.by_hand),
            "files equal": sum(weights(paths) == expected[run.made[paths.id]] for paths in jobs),
            "queue empty": all(runner.status(paths) == "done" for paths in jobs),
            "page answers": answers,
            "left behind": [*map(str, relatives(place)), *map(str, workers(place)), *left_behind(place)],
        }


def left_behind(place: Workspace) -> list[str]:
    """Temporary files and folders."""
    hidden = [p for p in place.root.rglob(".*") if p.name not in (".lock", ".queue.lock")]
    return [str(p.relative_to(place.root)) for p in (*hidden, *(place.root / "uploads").glob("*"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--steps", type=int, default=600, help="of each job")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = soak(Path(folder), options.minutes * 60, options.steps)
    print(json.dumps(report, indent=2))
    clean = report["files equal"] == report["jobs"] and report["most workers at once"] <= 1
    sys.exit(0 if clean and report["queue empty"] and report["page answers"] and not report["left behind"] else 1)


if __name__ == "__main__":
    main()
