"""Workers with faults in their way, and a job that takes a second."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sdlora import config
from sdlora.core.environment import child_environment
from sdlora.data import Dataset, import_pictures
from sdlora.jobs import store
from sdlora.jobs.paths import JobPaths, Workspace
from tests.browser import ROOT
from tests.conftest import draw_pictures
from tests.fork_server import COMPUTE, ForkServers

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
class Workers:
    """Starts workers as forks, with faults put in their way: functions of `tests.faults.plan` by name."""

    python: str
    process: subprocess.Popen[bytes] | None = None

    def start(self, paths: JobPaths, **faults: Any) -> int:
        """Begin a worker; its pid."""
        with open(paths.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.python, "-m", "sdlora.processes.worker", str(paths.folder)],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **child_environment(), "SDLORA_TEST_FAULT": json.dumps(faults)},
                start_new_session=True,
            )
        return self.process.pid

    def end(self) -> int:
        """Wait for it; its exit code, negative for a signal."""
        assert self.process
        return self.process.wait()

    def run(self, paths: JobPaths, **faults: Any) -> int:
        self.start(paths, **faults)
        return self.end()


@pytest.fixture
def workers(fork_server: ForkServers) -> Iterator[Workers]:
    made = Workers(fork_server.need(COMPUTE))
    yield made
    if made.process:
        made.process.kill()
        made.process.wait()


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
