"""The fault table, row by row, on real worker processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sdlora import config
from sdlora.core import events
from sdlora.data import Dataset, delete_dataset, open_dataset, with_captions
from sdlora.jobs import lock, runner, store
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.queue import Queue
from sdlora.processes import worker
from tests.faults.conftest import HARD, STEPS, MakeJob, Workers
from tests.jobs import outcome_of, told, weights_of

pytestmark = pytest.mark.faults


def facts(paths: JobPaths) -> dict[str, Any]:
    """What the newest state says beside its tensors."""
    newest = max(paths.state.glob("step-*"))
    return dict(json.loads((newest / "manifest.json").read_text())["facts"])


def again(paths: JobPaths) -> None:
    """As the queue does after a while."""
    assert runner.status(paths) == "interrupted"
    runner.resume(paths)


class TestRow1:
    """kill -9 of the worker at any step."""

    @pytest.mark.parametrize(
        ("state_every", "steps"),
        [(2, range(1, 7)), (1, (1, 3, 4, 6))],  # where every step has its state, few kills are different
        ids=["a state every 2", "a state every step"],
    )
    def test_killed_at_every_step_ends_in_the_same_bytes(
        self, workers: Workers, job: MakeJob, state_every: int, steps: Iterable[int]
    ) -> None:
        short = {"train.steps": 6, "train.save_every": 3, "train.state_every": state_every}
        whole = job(**short)
        assert workers.run(whole) == 0
        assert len(told(whole).judged) == 2
        for step in steps:
            broken = job(**short)
            assert workers.run(broken, kill_at=step) == -signal.SIGKILL
            again(broken)
            assert workers.run(broken) == 0
            assert weights_of(broken) == weights_of(whole), f"killed at {step}"
            first, second = outcome_of(whole), outcome_of(broken)
            assert (first.best_step, first.recommended_strength) == (second.best_step, second.recommended_strength)
            store.delete(broken.workspace, broken.id)

    def test_killed_again_and_again_makes_progress(self, workers: Workers, job: MakeJob) -> None:
        whole, broken = job(), job()
        workers.run(whole)
        for step in (4, 5, 8, 11, 14):
            assert workers.run(broken, kill_at=step) == -signal.SIGKILL
            again(broken)
        assert workers.run(broken) == 0
        assert weights_of(broken) == weights_of(whole)

    def test_on_a_machine_with_more_cores(self, workers: Workers, job: MakeJob, place: Workspace) -> None:
        """Other threads add in another order: those of the first start are set again, also for what comes before step 1."""
        whole, broken = job(), job()
        workers.run(whole, threads=2)
        shutil.rmtree(place.cache)
        workers.run(broken, threads=2, kill_at=8)
        shutil.rmtree(place.cache)
        again(broken)
        assert workers.run(broken, threads=1) == 0
        assert facts(broken)["threads"] == 2
        assert weights_of(broken) == weights_of(whole)

    def test_three_attempts_without_progress_wait_for_a_person(
        self, workers: Workers, job: MakeJob, place: Workspace
    ) -> None:
        paths, queue = job(), Queue(place)
        for attempt in (1, 2, 3):
            assert workers.run(paths, kill_at=5) == -signal.SIGKILL
            assert paths.saved_step() == 3
            assert runner.attempts_without_progress(paths) == attempt
            if attempt < 3:
                seconds = queue.seconds_to_retry(paths)
                assert seconds is not None
                assert 0 < seconds <= 8
                again(paths)
        assert queue.seconds_to_retry(paths) is None

    def test_it_goes_back_to_the_queue_by_itself(
        self, workers: Workers, job: MakeJob, place: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started: list[JobPaths] = []
        monkeypatch.setattr(runner, "start", lambda paths, launcher: bool(started.append(paths)) or True)
        paths, queue = job(), Queue(place)
        workers.run(paths, kill_at=4)
        queue.tick()
        assert runner.status(paths) == "interrupted", "a person has time to see it"
        monkeypatch.setattr("sdlora.jobs.queue.RETRY_SECONDS", 0)
        queue.tick()
        assert runner.status(paths) == "queued"
        assert started == [paths]


def test_row_2_killed_inside_a_state_write(workers: Workers, job: MakeJob) -> None:
    whole = job()
    workers.run(whole)
    for operation in (3, 25, 33, 40):  # in the first save and in the second
        broken = job()
        assert workers.run(broken, kill_in_save=operation) == -signal.SIGKILL
        again(broken)
        assert workers.run(broken) == 0
        assert weights_of(broken) == weights_of(whole)
        assert not list(broken.state.glob(".*"))


def test_row_2_what_a_killed_writer_left_is_cleared_at_the_next_start(
    workers: Workers, job: MakeJob, place: Workspace
) -> None:
    paths = job()
    workers.run(paths, kill_at=6)
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = [paths.checkpoints / ".step-000005.safetensors", paths.folder / ".outcome.json", paths.samples / ".a.png"]
    left = [p.with_name(f"{p.name}.{ended.pid}.tmp") for p in (*names, place.cache / "latents" / ".a.safetensors")]
    living = place.cache / "latents" / f".b.safetensors.{os.getpid()}.tmp"
    young = place.cache / "latents" / f".c.safetensors.{ended.pid}.tmp"  # maybe another machine's
    for file in (*left, living, young):
        file.touch()
    for file in (left[-1], living):
        os.utime(file, (time.time() - 2 * worker.TEMPORARY_AGE,) * 2)
    (paths.state / ".step-000099.tmp").mkdir()  # of a save in a hurry: no later one takes its name
    left.append(paths.state / ".step-000099.tmp")
    again(paths)
    assert workers.run(paths) == 0
    assert not [p for p in left if p.exists()]
    assert living.exists()
    assert young.exists()

    half = [
        place.jobs / ".x.new",
        place.jobs / ".x.deleted",
        place.datasets / ".import-x",
        place.datasets / ".deleted-x",
    ]
    for folder in half:
        (folder / "dataset").mkdir(parents=True)
    (place.previews / ".x.1.png").touch()
    store.clear_leftovers(place)
    assert not [p for p in (*half, place.previews / ".x.1.png") if p.exists()]
    assert runner.status(paths) == "done"


NO_ROOM = {"/.step-000006": 3, "/checkpoints/": 3, "/latents/": 0, "outcome.json": STEPS}  # -> the state that stands


@pytest.mark.parametrize("where", NO_ROOM)
def test_row_4_a_full_disk_pauses_and_goes_on(
    workers: Workers, job: MakeJob, place: Workspace, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    whole, paths = job(), job()
    workers.run(whole)
    if where == "/latents/":
        shutil.rmtree(place.cache)
    assert workers.run(paths, full_disk=where) == 74
    assert paths.saved_step() == NO_ROOM[where], "the earlier state stands"
    waits = "interrupted" if where == "outcome.json" else "paused"
    assert runner.status(paths) == waits
    if waits == "paused":
        outcome = outcome_of(paths)
        assert outcome.exit_code == 74
        assert f"needs {outcome.needed_bytes >> 20} MB" in outcome.reason.en
    monkeypatch.setattr("sdlora.jobs.queue.RETRY_SECONDS", 0)
    monkeypatch.setattr(runner, "start", lambda paths, launcher: True)
    with monkeypatch.context() as full:
        full.setattr("sdlora.jobs.queue.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))  # type: ignore[attr-defined]
        Queue(place).tick()
        assert runner.status(paths) == waits
    Queue(place).tick()
    assert runner.status(paths) == "queued"
    assert workers.run(paths) == 0
    assert weights_of(paths) == weights_of(whole)


@pytest.mark.parametrize("fault", [{"full_disk": "/samples/"}, {"full_disk": "events.jsonl"}, {"full_log": True}])
def test_row_5_no_room_for_samples_events_or_log_costs_only_these(
    workers: Workers, job: MakeJob, fault: dict[str, Any]
) -> None:
    whole, paths = job(**{"train.sample_every": 5}), job(**{"train.sample_every": 5})
    workers.run(whole)
    assert workers.run(paths, **fault) == 0
    assert weights_of(paths) == weights_of(whole)
    samples, events_lost = (fault.get("full_disk") == where for where in ("/samples/", "events.jsonl"))
    assert [w.code for w in told(paths).warnings] == ["samples"] * samples
    for picture in paths.samples.glob("*.png"):  # no half one stays under its name
        with Image.open(picture) as opened:
            opened.load()
    assert paths.log.read_text().count("Events cannot be written") == events_lost


def test_row_5_both_at_once(workers: Workers, job: MakeJob) -> None:
    paths = job()
    assert workers.run(paths, full_log=True, full_disk="events.jsonl") == 0
    assert outcome_of(paths).step == STEPS


def test_row_5_events_say_that_some_are_missing(tmp_path: Path) -> None:
    writer = worker.EventWriter(tmp_path / "later" / "events.jsonl")
    for step in (1, 2, 3):
        writer.write(events.Stepped(step, 1.0, 1e-4, 0.1))
    (tmp_path / "later").mkdir()
    writer.write(events.Stepped(4, 1.0, 1e-4, 0.1))
    found = events.Follower(writer.path)
    found.poll()
    assert [w.code for w in found.warnings] == ["events"]
    assert "3" in found.warnings[0].ja
    assert list(found.steps) == [4]


def test_row_6_damaged_states(workers: Workers, job: MakeJob) -> None:
    whole, paths = job(), job()
    workers.run(whole)
    workers.run(paths, kill_at=8)
    newest = paths.state / "step-000006" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    again(paths)
    assert workers.run(paths, kill_at=5) == -signal.SIGKILL, "the older one was used"
    again(paths)
    for file in paths.state.glob("*/tensors.safetensors"):
        file.write_bytes(b"")
    assert workers.run(paths) == 64
    assert "damaged" in outcome_of(paths).reason.en
    assert "壊れている" in outcome_of(paths).reason.ja


class TestRow7:
    """Out of memory."""

    def test_less_at_a_time_gives_the_same_lora(self, workers: Workers, job: MakeJob) -> None:
        plain = {"train.gradient_checkpointing": False, "lora.dropout": 0.0}
        whole, paths = job(**plain), job(**plain)
        workers.run(whole)
        assert workers.run(paths, out_of_memory=1, kill_at=7) == -signal.SIGKILL
        told_before = [w.en for w in told(paths).warnings]
        assert len(told_before) == 2
        assert "checkpointing" in told_before[0]
        assert "2 pieces" in told_before[1]
        again(paths)
        assert workers.run(paths, out_of_memory=1) == 0
        assert len(told(paths).warnings) == 2, "kept for the resume"
        assert outcome_of(paths).step == STEPS
        close(weights_of(paths), weights_of(whole))

    def test_nothing_left_to_save(self, workers: Workers, job: MakeJob) -> None:
        paths = job()
        assert workers.run(paths, out_of_memory=0) == 71
        assert "2.00 GiB more" in outcome_of(paths).reason.en


def close(a: bytes, b: bytes) -> None:
    """fp16 weights that differ by rounding only."""
    import numpy as np

    np.testing.assert_allclose(np.frombuffer(a, np.float16), np.frombuffer(b, np.float16), atol=2e-2)


class TestRow8:
    """Not finite."""

    def test_single_steps_are_skipped_and_remembered(self, workers: Workers, job: MakeJob) -> None:
        whole, paths = job(), job()
        assert workers.run(whole, not_finite=[4, 9]) == 0
        assert workers.run(paths, not_finite=[4, 9], kill_at=8) == -signal.SIGKILL
        again(paths)
        assert workers.run(paths, not_finite=[4, 9]) == 0
        assert weights_of(paths) == weights_of(whole)

    @pytest.mark.parametrize("steps", [[6, 7, 8], [0, 2, 3, 5, 6, 8, 9, 11, 12, 14]])
    def test_three_in_a_row_or_ten_stop_with_advice(
        self, workers: Workers, job: MakeJob, place: Workspace, steps: list[int]
    ) -> None:
        paths = job()
        assert workers.run(paths, not_finite=steps) == 76
        assert f"step {steps[-1] + 1}:" in outcome_of(paths).reason.en
        assert "learning rate" in outcome_of(paths).reason.en
        assert max(p.name for p in paths.checkpoints.iterdir()) == f"step-{steps[-1] // 5 * 5:06d}.safetensors"
        Queue(place).tick()
        assert runner.status(paths) == "failed", "it would diverge again"

    @pytest.mark.parametrize("step", [4, 6])  # a checkpoint comes next, or a state
    def test_weights_that_are_not_finite_never_reach_the_disk(self, workers: Workers, job: MakeJob, step: int) -> None:
        paths = job(**{"train.state_every": 4})
        assert workers.run(paths, broken_weights=step, not_finite=[step + 1]) == 76
        assert "learning rate" in outcome_of(paths).reason.en
        for file in (*paths.state.glob("*/*.safetensors"), *paths.checkpoints.glob("*.safetensors")):
            assert all(torch.isfinite(tensor).all() for tensor in load_file(file).values())
        assert paths.saved_step() == 4

    def test_a_picture_that_cannot_be_encoded_is_named(self, workers: Workers, job: MakeJob, dataset: Dataset) -> None:
        paths = job()
        assert workers.run(paths, nan_latents=dataset.items[3].sha256) == 64
        assert dataset.items[3].caption in outcome_of(paths).reason.en


def test_row_9_a_lost_gpu_is_tried_three_times_then_the_queue_waits(
    workers: Workers, job: MakeJob, place: Workspace
) -> None:
    paths, next_one = job(), job()
    for _ in range(2):
        assert workers.run(paths, gpu_lost=5) == 75
        again(paths)
    assert workers.run(paths, gpu_lost=5) == 75
    assert runner.status(paths) == "paused"
    Queue(place).tick()
    assert runner.status(next_one) == "queued", "it would be lost on it too"
    runner.resume(paths)
    assert runner.status(paths) == "queued"


@pytest.mark.parametrize("fault", [{}, {"long_kernel": 7}])
def test_row_10_sigterm_commits_the_last_whole_step(workers: Workers, job: MakeJob, fault: dict[str, int]) -> None:
    changes = {} if fault else {"train.steps": 5000}
    whole, paths = job(), job(**{**changes, "train.state_every": 1000})
    pid = workers.start(paths, **fault)
    while told(paths).step < 7:
        time.sleep(0.02)
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    assert workers.end() == 143
    assert time.monotonic() - began < 5
    assert runner.status(paths) == "interrupted"
    assert paths.saved_step() >= 7
    if fault:
        assert paths.saved_step() == 7
        workers.run(whole)
        again(paths)
        assert workers.run(paths) == 0
        assert weights_of(paths) == weights_of(whole)


def test_row_11_one_worker_a_job(workers: Workers, job: MakeJob, place: Workspace) -> None:
    paths, second = job(**{"train.steps": 5000}), job()
    pid = workers.start(paths)
    while told(paths).step < 2:
        time.sleep(0.02)
    assert runner.status(paths) == "running"
    assert not runner.start(paths)
    assert runner.start_next(place) is None
    assert [j.queue_position for j in runner.jobs(place) if j.spec.id == second.id] == [1]
    os.kill(pid, signal.SIGKILL)
    workers.end()


def test_row_11_a_crowd_is_one(
    place: Workspace, dataset: Dataset, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight clicks at once make one job, which starts once and is brought back once."""
    settings = config.from_values({**HARD, "model.base": str(tiny_base)})
    started: list[int] = []
    monkeypatch.setattr(
        runner, "start", lambda paths, launcher: bool(started.append(lock.acquire(paths.lock) or 0)) or True
    )
    monkeypatch.setattr("sdlora.jobs.queue.RETRY_SECONDS", 0)
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: store.create(place, dataset, settings).id, range(8)))
        paths = place.job(made.pop())
        assert not made
        for _ in range(2):
            list(pool.map(lambda _: Queue(place).tick(), range(8)))
            assert len(started) == 1
            paths.log.touch()
            os.close(started.pop())  # the worker is killed
    assert runner.attempts(paths) == 2


def test_row_12_a_changed_base_blocks(workers: Workers, job: MakeJob, tiny_base: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(tiny_base, mine)
    queued, killed = job(**{"model.base": str(mine)}), job(**{"model.base": str(mine)})
    workers.run(killed, kill_at=4)
    again(killed)
    weights = mine / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    for paths in (queued, killed):
        assert workers.run(paths) == 64
        assert "Blocked: the base model" in outcome_of(paths).reason.en
    assert not queued.checkpoints.exists()
    shutil.rmtree(mine)
    runner.resume(queued)
    assert workers.run(queued) == 64
    shutil.copytree(tiny_base, mine)
    runner.resume(killed)
    assert workers.run(killed) == 0


@pytest.mark.parametrize(
    ("part", "old", "new"), [("settings", '"dropout": 0.2', '"dropout": 0.3'), ("pictures", "", "")]
)
def test_row_12_a_state_of_something_else_blocks(workers: Workers, job: MakeJob, part: str, old: str, new: str) -> None:
    paths = job()
    workers.run(paths, kill_at=4)
    again(paths)
    if part == "settings":
        assert old in paths.job.read_text()
        paths.job.write_text(paths.job.read_text().replace(old, new))
    else:
        other = open_dataset(paths.dataset)
        changed = with_captions(other, {0: "something else"}, paths.folder)
        shutil.rmtree(paths.dataset)
        changed.folder.rename(paths.dataset)
    assert workers.run(paths) == 64
    assert part in outcome_of(paths).reason.en
    assert paths.saved_step() == 3


def test_row_12_other_versions_go_on_and_say_so(workers: Workers, job: MakeJob) -> None:
    paths = job()
    workers.run(paths, kill_at=4)
    again(paths)
    manifest = paths.state / "step-000003" / "manifest.json"
    version = facts(paths)["versions"]["torch"]
    manifest.write_text(manifest.read_text().replace(f'"torch": "{version}"', '"torch": "1.0"'))
    assert workers.run(paths) == 0
    assert [w.code for w in told(paths).warnings] == ["versions"]
    assert f"torch 1.0 → {version}" in told(paths).warnings[0].ja


def test_row_13_a_deleted_data_set(workers: Workers, job: MakeJob, dataset: Dataset) -> None:
    whole, paths = job(), job()
    workers.run(whole)
    links = (paths.dataset / dataset.items[0].file).stat().st_nlink
    assert links >= 3, "linked, not copied"
    delete_dataset(dataset)
    shutil.rmtree(paths.workspace.cache)
    assert workers.run(paths) == 0
    assert weights_of(paths) == weights_of(whole)
    assert (paths.dataset / dataset.items[0].file).stat().st_nlink == links - 1


def test_row_14_a_clock_that_jumps(workers: Workers, job: MakeJob) -> None:
    whole, paths = job(), job()
    workers.run(whole)
    workers.run(paths, kill_at=7, clock=-86_400.0)
    for number, folder in enumerate(sorted(paths.state.iterdir(), reverse=True)):
        os.utime(folder, (number * 1e6, number * 1e6))  # the oldest looks newest
    again(paths)
    assert workers.run(paths, clock=86_400.0, kill_at=9) == -signal.SIGKILL
    assert begun(paths) == 6, "the newest by its step"
    again(paths)
    assert workers.run(paths, clock=86_400.0) == 0
    assert weights_of(paths) == weights_of(whole)
    assert 0 < outcome_of(paths).seconds < 3600


def begun(paths: JobPaths) -> int:
    """The step that the last worker began at."""
    started = told(paths).started
    assert started
    return started.step


def test_row_14_the_queue_keeps_its_order(job: MakeJob, place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    first = job()
    real = time.time
    monkeypatch.setattr("sdlora.jobs.store.time.time", lambda: real() - 86_400)
    second = job()
    assert {j.spec.id: j.queue_position for j in runner.jobs(place)} == {first.id: 1, second.id: 2}


def test_row_15_settings_that_are_refused_are_not_tried_again(workers: Workers, job: MakeJob, place: Workspace) -> None:
    paths = job()
    text = paths.job.read_text()
    paths.job.write_text(text.replace('"rank": 2', '"rank": -2'))
    assert workers.run(paths) == 64
    Queue(place).tick()
    assert runner.status(paths) == "failed"
    assert HARD["lora.rank"] == 2
