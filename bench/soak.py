"""Half an hour of faults: `python -m bench.soak [--minutes 30]`.

Five jobs in the queue of a really started app; every 5 to 20 seconds something breaks: a worker is killed or asked to leave, the
web process is killed, a saved state is damaged. At the end every file must be what the unbroken run gave, no process may be
left, no temporary file, and the page must answer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdlora import config
from sdlora.data import Dataset, import_pictures
from sdlora.jobs import runner, store
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.spec import Outcome
from sdlora.lora.canonical import data_of
from tests.conftest import draw_pictures
from tests.tiny import make_base

JOBS = 5


@dataclass
class App:
    """The web app, started again whenever it was killed."""

    workspace: Path
    process: subprocess.Popen[str] | None = None
    url: str = ""

    def start(self) -> None:
        command = [sys.executable, "app.py", "--port", "0", "--workspace", str(self.workspace)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        for line in self.process.stdout:
            ready = re.search(r"ready on (http://\S+)", line)
            if ready:
                self.url = ready[1]
                return
        raise RuntimeError("the app did not start")

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def answers(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/en/", timeout=10) as response:
            return bool(response.status == 200)


@dataclass
class Soak:
    """One run of it."""

    app: App
    place: Workspace
    jobs: list[JobPaths]
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    faults: Counter[str] = field(default_factory=Counter)
    resumed_by_hand: int = 0

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        kinds: dict[str, Callable[[], bool]] = {
            "worker killed": self.kill_worker,
            "worker told to leave": self.terminate_worker,
            "web process killed": self.kill_app,
            "state damaged": self.damage_state,
        }
        while time.monotonic() < end and not self.finished():
            self._look_for(self.chance.uniform(5, 20))
            name = self.chance.choice([*kinds, "worker killed"])
            self.faults[name] += kinds[name]()
        while not self.finished():
            self._look_for(1)

    def finished(self) -> bool:
        return all(runner.status(paths) in ("done", "failed") for paths in self.jobs)

    def _look_for(self, seconds: float) -> None:
        """Wait; resume what waits for a person, as a person would."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for paths in self.jobs:
                waits = runner.status(paths) == "interrupted"
                if waits and runner.attempts_without_progress(paths) >= runner.ATTEMPTS:
                    with contextlib.suppress(Exception):
                        runner.resume(paths)
                        self.resumed_by_hand += 1
            time.sleep(0.5)

    def kill_worker(self) -> bool:
        return self._signal(signal.SIGKILL)

    def terminate_worker(self) -> bool:
        return self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> bool:
        pids = workers(self.place)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return bool(pids)

    def kill_app(self) -> bool:
        self.app.kill()
        self.app.start()
        return True

    def damage_state(self) -> bool:
        """Flip a bit in the newest of two states; the worker that reads it next must take the older one."""
        for paths in self.jobs:
            states = sorted(paths.state.glob("step-*/tensors.safetensors"))
            if len(states) == 2 and runner.status(paths) != "done":
                with contextlib.suppress(OSError):
                    data = bytearray(states[-1].read_bytes())
                    data[-1] ^= 1
                    states[-1].write_bytes(data)
                    return self._signal(signal.SIGKILL) or True
        return False


def workers(place: Workspace) -> list[int]:
    """Pids of the workers of this workspace."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
            if b"sdlora.worker" in words and any(str(place.jobs).encode() in w for w in words):
                found.append(int(folder.name))
    return found


def make_jobs(place: Workspace, dataset: Dataset, base: Path, steps: int) -> list[JobPaths]:
    changes: dict[str, Any] = {
        "model.base": str(base),
        "train.steps": steps,
        "train.batch_size": 4,
        "train.precision": "fp32",
        "train.state_every": 5,
        "train.save_every": steps // 4,
        "train.sample_every": steps,
        "lora.dropout": 0.1,
        "train.text_encoder_lr": 1e-4,
        "sample.steps": 2,
    }
    specs = [store.create(place, dataset, config.from_values({**changes, "train.seed": k})) for k in range(JOBS)]
    return [place.job(spec.id) for spec in specs]


def weights(paths: JobPaths) -> bytes | None:
    outcome = Outcome.read(paths)
    return data_of((paths.folder / outcome.file).read_bytes()) if outcome and outcome.file else None


def unbroken(place: Workspace, jobs: list[JobPaths]) -> list[bytes | None]:
    for paths in jobs:
        while runner.status(paths) not in ("done", "failed"):
            runner.start_next(place)
            time.sleep(0.2)
    return [weights(paths) for paths in jobs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--steps", type=int, default=2000, help="of each of the five jobs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = soak(Path(folder), options.minutes * 60, options.steps)
    print(json.dumps(report, indent=2))
    sys.exit(0 if report["all equal"] and not report["left behind"] and report["page answers"] else 1)


def soak(folder: Path, seconds: float, steps: int) -> dict[str, Any]:
    base = make_base(folder / "base")
    quiet, place = Workspace(folder / "quiet").make(), Workspace(folder / "soak").make()
    pictures = draw_pictures(folder / "pictures", 12)
    began = time.monotonic()
    expected = unbroken(quiet, make_jobs(quiet, import_pictures([pictures], quiet.datasets), base, steps))
    quiet_seconds = time.monotonic() - began
    jobs = make_jobs(place, import_pictures([pictures], place.datasets), base, steps)
    app, began = App(place.root), time.monotonic()
    app.start()
    run = Soak(app, place, jobs)
    run.run(seconds)
    report = {
        "minutes": round((time.monotonic() - began) / 60, 1),
        "minutes unbroken": round(quiet_seconds / 60, 1),
        "faults": dict(run.faults),
        "faults in all": sum(run.faults.values()),
        "workers started": sum(runner.attempts(paths) for paths in jobs),
        "resumed by hand": run.resumed_by_hand,
        "all equal": [weights(paths) for paths in jobs] == expected and None not in expected,
        "page answers": app.answers(),
    }
    assert app.process
    app.process.terminate()
    app.process.wait(15)
    hidden = [str(p.relative_to(place.root)) for p in place.root.rglob(".*") if p.name not in (".lock", ".queue.lock")]
    return {**report, "left behind": [*map(str, workers(place)), *hidden]}


if __name__ == "__main__":
    main()
