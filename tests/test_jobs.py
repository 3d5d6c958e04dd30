"""Jobs as folders, with real worker processes: one runs at a time, a killed one is seen and goes on to the same file."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdlora import config
from sdlora.core import events
from sdlora.core.errors import BadInput
from sdlora.data import Dataset, delete_dataset, import_pictures
from sdlora.jobs import lock, runner, store
from sdlora.jobs.paths import JobPaths, Workspace, checked_id
from sdlora.jobs.queue import Queue
from sdlora.jobs.spec import JobSpec
from tests.jobs import outcome_of, processes, told, wait, weights_of, worker_of

FAST = {
    "train.steps": 300,
    "train.batch_size": 2,
    "train.precision": "fp32",
    "train.state_every": 3,
    "train.save_every": 100,
    "train.sample_every": 300,
    "lora.rank": 2,
    "lora.targets": "attention",
    "sample.steps": 1,
}


@pytest.fixture
def place(workspace: Path, forked: str) -> Iterator[Workspace]:
    made = Workspace(workspace).make()
    yield made
    for pid in processes(made.jobs).values():
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def dataset(place: Workspace, pictures: Path) -> Dataset:
    return import_pictures([pictures], place.datasets)


def job(place: Workspace, dataset: Dataset, base: Path, **changes: object) -> JobPaths:
    settings = config.from_values({**FAST, "model.base": str(base), **changes})
    return place.job(store.create(place, dataset, settings).id)


def test_killed_seen_and_resumed_to_the_same_bytes(
    place: Workspace, dataset: Dataset, tiny_base: Path, forked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker is a fork, the one that is killed a process started from nothing."""
    short = {"train.steps": 60, "train.save_every": 30}
    whole = job(place, dataset, tiny_base, **short)
    broken = job(place, dataset, tiny_base, **short, **{"train.sample_every": 299})  # another job, the same training
    assert runner.status(whole) == runner.status(broken) == "queued"
    assert [j.queue_position for j in runner.jobs(place)] == [2, 1]

    started = runner.start_next(place)
    assert started is not None
    assert started.id == whole.id
    assert runner.status(whole) == "running"
    assert runner.start_next(place) is None
    assert not runner.start(whole), "one worker a job"
    wait(lambda: runner.status(whole) == "done")

    with monkeypatch.context() as real:
        real.setattr(sys, "executable", forked)
        runner.start_next(place)
    wait(lambda: told(broken).step >= 4)
    os.kill(worker_of(broken), signal.SIGKILL)
    wait(lambda: runner.status(broken) == "interrupted", seconds=5)
    assert runner.start_next(place) is None
    assert broken.saved_step() > 0

    delete_dataset(dataset)  # the job has links of its own
    runner.resume(broken)
    assert runner.status(broken) == "queued"
    runner.start_next(place)
    wait(lambda: runner.status(broken) == "done")
    assert runner.attempts(broken) == 2
    assert weights_of(whole) == weights_of(broken)


def test_stopped_by_the_page_and_by_sigterm(place: Workspace, dataset: Dataset, tiny_base: Path) -> None:
    paths = job(place, dataset, tiny_base, **{"train.steps": 100_000})
    runner.start_next(place)
    wait(lambda: told(paths).step >= 5)
    runner.stop(paths)
    wait(lambda: runner.status(paths) == "stopped")
    outcome = outcome_of(paths)
    assert (paths.folder / outcome.file).is_file()
    assert paths.saved_step() == outcome.step

    runner.resume(paths)
    runner.start_next(place)
    wait(lambda: told(paths).step > outcome.step)
    os.kill(worker_of(paths), signal.SIGTERM)
    wait(lambda: runner.status(paths) == "interrupted")
    assert paths.saved_step() > outcome.step


def test_a_job_that_cannot_run_says_why(place: Workspace, dataset: Dataset, tiny_base: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(tiny_base, tmp_path / "mine")
    paths = job(place, dataset, tmp_path / "mine")
    shutil.rmtree(tmp_path / "mine")
    runner.start_next(place)
    wait(lambda: runner.status(paths) == "failed")
    outcome = outcome_of(paths)
    assert outcome.exit_code == 64
    assert "no base model" in outcome.reason.en
    assert "見つかりません" in outcome.reason.ja


def test_a_double_click_is_one_job_and_names_are_unique(place: Workspace, dataset: Dataset, tiny_base: Path) -> None:
    once, twice = job(place, dataset, tiny_base), job(place, dataset, tiny_base)
    assert once == twice
    job(place, dataset, tiny_base, **{"train.seed": 5})
    names = [s.name for s in store.list_specs(place)]
    assert len(set(names)) == len(names) == 2


def test_queued_jobs_can_be_taken_back(place: Workspace, dataset: Dataset, tiny_base: Path) -> None:
    paths = job(place, dataset, tiny_base)
    runner.stop(paths)
    assert runner.status(paths) == "stopped"
    assert runner.start_next(place) is None
    with pytest.raises(BadInput):
        runner.stop(paths)
    store.delete(place, paths.id)
    assert runner.jobs(place) == []


def test_a_job_reads_back_as_written(place: Workspace, dataset: Dataset, tiny_base: Path) -> None:
    paths = job(place, dataset, tiny_base)
    spec = JobSpec.read(paths)
    assert spec.settings.lora.rank == 2
    assert len(spec.base_fingerprint) == 64
    assert spec.versions["torch"]
    assert store.get_spec(place, paths.id) == spec


def test_running_jobs_are_not_deleted(place: Workspace, dataset: Dataset, tiny_base: Path) -> None:
    paths = job(place, dataset, tiny_base)
    held = lock.acquire(paths.lock)
    assert held is not None
    assert runner.status(paths) == "running"
    with pytest.raises(BadInput):
        store.delete(place, paths.id)
    os.close(held)
    assert runner.status(paths) == "queued"


@pytest.mark.parametrize("bad", ["", "..", "a/b", "/etc", "A", "a" * 81, "é", "a\n", "-a", "a.b"])
def test_ids_never_name_other_folders(place: Workspace, bad: str) -> None:
    with pytest.raises(BadInput):
        checked_id(bad)
    with pytest.raises(BadInput):
        place.job(bad)
    with pytest.raises(BadInput):
        place.dataset(bad)


def test_events_survive_a_cut_line_and_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for step in (1, 2, 3):
        events.append(path, events.Stepped(step, 1.0, 1e-4, 0.1))
    follower = events.Follower(path)
    assert follower.poll()
    with open(path, "a") as file:
        file.write('{"event": "Stepp')
    assert not follower.poll()
    with open(path, "a") as file:
        file.write("\n[]\n{}\n")
    follower.poll()
    events.append(path, events.Started(2, 10, 8, 1, 100, 1000, "cpu", "float32"))
    assert follower.poll()
    assert list(follower.steps) == [1, 2]
    assert follower.step == 2
    assert follower.seconds_left() == pytest.approx(0.8)


def test_the_queue_makes_room_before_a_job_starts(
    place: Workspace, dataset: Dataset, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[object] = []
    monkeypatch.setattr(runner, "start", lambda paths, launcher: order.append("start") or True)
    queue = Queue(place, before_start=order.append)
    queue.tick()
    assert not order, "nothing waits"
    job(place, dataset, tiny_base, **{"train.processes": 2})
    queue.tick()
    assert order == [2, "start"]
