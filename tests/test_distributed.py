"""One job over two processes, really launched: what one process trains, two train; whichever is killed, it goes on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sdlora import config
from sdlora.core.errors import BadInput
from sdlora.data import Dataset, import_pictures
from sdlora.jobs import runner, store
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.train import distributed
from tests.conftest import draw_pictures
from tests.fork_server import COMPUTE, ForkServers
from tests.jobs import processes, told, wait

STEPS = 24
# Whatever could tell shares apart: pictures of two shapes, batches that are not full, dropped captions, adapter dropout, averaging.
SETTINGS = {
    "train.steps": STEPS,
    "train.batch_size": 2,
    "train.gradient_accumulation": 2,
    "train.precision": "fp32",
    "train.unet_lr": 1e-4,
    "train.text_encoder_lr": 5e-5,
    "train.ema": 0.9,
    "train.save_every": STEPS,
    "train.sample_every": STEPS,
    "train.state_every": 4,
    "data.caption_dropout": 0.3,
    "lora.rank": 2,
    "lora.dropout": 0.2,
    "sample.steps": 2,
    "sample.prompts": "red disc",
    "export.dtype": "fp32",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    made = Workspace(tmp_path_factory.mktemp("many") / "workspace").make()
    yield made
    for pid in processes(made.jobs).values():
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def dataset(place: Workspace) -> Dataset:
    folder = draw_pictures(place.root / "pictures", 9)
    for k in (1, 4, 6):
        with Image.open(folder / f"disc{k}.png") as picture:
            wide = picture.resize((128, 64))
        wide.save(folder / f"disc{k}.png")
    return import_pictures([folder], place.datasets)


MakeJob = Callable[[int], JobPaths]


@pytest.fixture(scope="module")
def job(place: Workspace, dataset: Dataset, tiny_base: Path) -> MakeJob:
    count = iter(range(1_000_000))

    def make(number: int) -> JobPaths:
        settings = config.from_values({**SETTINGS, "model.base": str(tiny_base), "train.processes": number})
        return place.job(store.create(place, dataset, settings, name=f"job{next(count)}").id)

    return make


@pytest.fixture(scope="module")
def alone(job: MakeJob, fork_server: ForkServers) -> JobPaths:
    """The job as one process trains it."""
    paths = job(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "executable", fork_server.need(COMPUTE))
        assert runner.start(paths)
    finish(paths)
    return paths


def losses(paths: JobPaths) -> dict[int, float]:
    return {step: event.loss for step, event in told(paths).steps.items()}


def finish(paths: JobPaths) -> None:
    wait(lambda: runner.status(paths) not in ("running", "stopping"))
    assert runner.status(paths) == "done", paths.log.read_text()


def same(one: JobPaths, other: JobPaths) -> None:
    """Adapters to 1e-6, the loss of every step to 1e-5, pictures to the last bit of a pixel."""
    first, second = (load_file(p.folder / f"checkpoints/step-{STEPS:06d}.safetensors") for p in (one, other))
    assert first.keys() == second.keys()
    assert max((first[name] - second[name]).abs().max().item() for name in first) < 1e-6
    assert max(v.abs().max().item() for name, v in second.items() if "lora_up" in name) > 1e-4, "it has learned"
    assert losses(one) == pytest.approx(losses(other), rel=1e-5)
    names = {p.name for p in one.samples.iterdir()}
    assert names == {p.name for p in other.samples.iterdir()} != set()
    for name in names:
        pixels = [np.asarray(Image.open(p.samples / name), dtype=int) for p in (one, other)]
        assert abs(pixels[0] - pixels[1]).max() <= 1


def test_two_processes_train_what_one_does(job: MakeJob, alone: JobPaths) -> None:
    """`accelerate launch` and its two processes, all three started from nothing."""
    paths = job(2)
    assert runner.start(paths)
    wait(lambda: told(paths).steps or runner.status(paths) != "running")
    assert set(processes(paths.folder)) == {-1, 0, 1}, paths.log.read_text()
    finish(paths)
    assert told(paths).started.device == "cpu × 2"
    assert told(paths).estimate is not None
    same(alone, paths)
    wait(lambda: not processes(paths.folder), 5)


def test_a_killed_process_a_stop_and_a_sigterm_cost_nothing(job: MakeJob, alone: JobPaths, forked: str) -> None:
    paths = job(2)
    runner.start(paths)
    wait(lambda: told(paths).step >= 4)
    os.kill(processes(paths.folder)[1], signal.SIGKILL)
    wait(lambda: runner.status(paths) == "interrupted", 10)
    wait(lambda: not processes(paths.folder), 5)
    killed = paths.saved_step()
    assert 0 < killed < STEPS

    runner.resume(paths)
    runner.start(paths)
    wait(lambda: told(paths).step >= killed + 4)
    runner.stop(paths)
    wait(lambda: runner.status(paths) == "stopped", 60)
    stopped = paths.saved_step()
    assert killed < stopped < STEPS, "both have stopped at the same step"

    runner.resume(paths)
    runner.start(paths)
    wait(lambda: told(paths).step >= stopped + 4)
    os.kill(processes(paths.folder)[-1], signal.SIGTERM)  # as `docker stop` and the server's end do
    wait(lambda: runner.status(paths) == "interrupted", 10)
    wait(lambda: not processes(paths.folder), 5)
    assert paths.saved_step() == told(paths).step > stopped, "the last whole step"

    runner.resume(paths)
    runner.start(paths)
    finish(paths)
    assert runner.attempts(paths) == 4
    same(alone, paths)


def test_a_killed_launcher_takes_its_processes_along_and_one_process_can_go_on(
    job: MakeJob, alone: JobPaths, forked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three from nothing: the parent of a fork is its server, not the launcher."""
    paths = job(2)
    with monkeypatch.context() as real:
        real.setattr(sys, "executable", forked)
        runner.start(paths)
    wait(lambda: told(paths).step >= 4)
    os.kill(processes(paths.folder)[-1], signal.SIGKILL)
    wait(lambda: not processes(paths.folder), 5)
    assert runner.status(paths) == "interrupted"
    runner.resume(paths)

    text = paths.job.read_text()
    assert text.count('"processes": 2') == 1
    paths.job.write_text(text.replace('"processes": 2', '"processes": 1'))
    runner.start(paths)
    finish(paths)
    same(alone, paths)


@pytest.mark.parametrize(("count", "size"), [(4, 2), (3, 2), (1, 4), (5, 3)])
def test_every_sample_of_an_update_is_somebodys(count: int, size: int) -> None:
    """Two batches one after the other, as accumulation has them: shares differ by one sample at most."""
    ranks = [distributed.World(rank, size) for rank in range(size)]
    shares = [[*r.shard(count, 0), *(count + k for k in r.shard(count, count))] for r in ranks]
    assert sorted(k for share in shares for k in share) == list(range(2 * count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(BadInput, match="has 1 GPU"):
        distributed.init_distributed(0, 2)
