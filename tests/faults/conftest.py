"""A warm parent for workers, and a job that takes a second."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sdlora import config
from sdlora.core import events
from sdlora.core.environment import child_environment
from sdlora.core.safetensors_io.writer import data_section
from sdlora.data import Dataset, import_pictures
from sdlora.jobs import store
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.spec import Outcome
from tests.conftest import draw_pictures

STEPS = 15
# Everything that could make a resumed run differ: adapter dropout, averaging, gradient checkpointing, pictures of several shapes.
HARD = {
    "train.steps": STEPS,
    "train.batch_size": 2,
    "train.precision": "fp32",
    "train.unet_lr": 1e-2,
    "train.text_encoder_lr": 1e-3,
    "train.gradient_accumulation": 2,
    "train.gradient_checkpointing": True,
    "train.ema": 0.9,
    "train.warmup_steps": 3,
    "train.save_every": 5,
    "train.sample_every": 100,
    "train.state_every": 3,
    "lora.rank": 2,
    "lora.dropout": 0.2,
    "data.caption_dropout": 0.2,
    "sample.steps": 1,
    "sample.prompts": "red disc",
}


@dataclass
class Zygote:
    """Client of the warm parent."""

    process: subprocess.Popen[str]
    pid: int = field(default=0)

    def start(self, paths: JobPaths, **fault: Any) -> int:
        """Begin a worker; its pid."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"folder": str(paths.folder), "fault": fault}) + "\n")
        self.process.stdin.flush()
        return int(self._read()["pid"])

    def end(self) -> int:
        """Wait for it; its exit code, negative for a signal."""
        return int(self._read()["code"])

    def run(self, paths: JobPaths, **fault: Any) -> int:
        self.start(paths, **fault)
        return self.end()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        return dict(json.loads(self.process.stdout.readline()))


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    command = [sys.executable, "-m", "tests.faults.zygote"]
    environment = {**os.environ, **child_environment()}  # OpenMP reads it when torch is loaded
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    assert process.stdin
    assert process.stdout.readline() == "ready\n"
    yield Zygote(process)
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workspace]:
    """In memory where that can be had: hundreds of states are written here, and what fsync promises is tested elsewhere."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path, prefix="sdlora-") as folder:
        yield Workspace(Path(folder)).make()


@pytest.fixture
def dataset(place: Workspace, tmp_path: Path) -> Dataset:
    folder = draw_pictures(tmp_path / "pictures", 9)
    from PIL import Image

    for k in (1, 4, 6):  # three shapes: three buckets
        with Image.open(folder / f"disc{k}.png") as picture:
            wide = picture.resize((128, 64) if k < 5 else (64, 128))
        wide.save(folder / f"disc{k}.png")
    return import_pictures([folder], place.datasets)


MakeJob = Callable[..., JobPaths]


@pytest.fixture
def job(place: Workspace, dataset: Dataset, tiny_base: Path) -> MakeJob:
    count = iter(range(1_000_000))

    def make(**changes: Any) -> JobPaths:
        settings = config.from_values({**HARD, "model.base": str(tiny_base), **changes})
        return place.job(store.create(place, dataset, settings, name=f"job{next(count)}").id)

    return make


def result(paths: JobPaths) -> bytes:
    """The weights of the chosen file: all of it but the header, where two jobs differ by name and time."""
    outcome = outcome_of(paths)
    assert outcome.status == "done"
    return data_section((paths.folder / outcome.file).read_bytes())


def outcome_of(paths: JobPaths) -> Outcome:
    outcome = Outcome.read(paths)
    assert outcome is not None
    return outcome


def told(paths: JobPaths) -> events.Follower:
    follower = events.Follower(paths.events)
    follower.poll()
    return follower
