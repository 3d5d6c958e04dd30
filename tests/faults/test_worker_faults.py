"""The fault table, row by row, on real worker processes."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from sdlora.data import Dataset, delete_dataset
from sdlora.jobs import runner, store
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.queue import Queue
from tests.faults.conftest import HARD, STEPS, MakeJob, Zygote, outcome_of, result, told

pytestmark = pytest.mark.faults


def again(paths: JobPaths) -> None:
    """As the queue does after a while."""
    assert runner.status(paths) == "interrupted"
    runner.resume(paths)


class TestRow1:
    """kill -9 of the worker at any step."""

    @pytest.mark.parametrize("state_every", [1, 3])
    def test_killed_at_every_step_ends_in_the_same_bytes(self, zygote: Zygote, job: MakeJob, state_every: int) -> None:
        whole = job(**{"train.state_every": state_every})
        assert zygote.run(whole) == 0
        assert len(told(whole).judged) == 3
        for step in range(1, STEPS + 1):
            broken = job(**{"train.state_every": state_every})
            assert zygote.run(broken, kill_at=step) == -signal.SIGKILL
            again(broken)
            assert zygote.run(broken) == 0
            assert result(broken) == result(whole), f"killed at {step}"
            first, second = outcome_of(whole), outcome_of(broken)
            assert (first.best_step, first.recommended_strength) == (second.best_step, second.recommended_strength)
            store.delete(broken.workspace, broken.id)

    def test_killed_again_and_again_makes_progress(self, zygote: Zygote, job: MakeJob) -> None:
        whole, broken = job(), job()
        zygote.run(whole)
        for step in (4, 5, 8, 11, 14):
            assert zygote.run(broken, kill_at=step) == -signal.SIGKILL
            again(broken)
        assert zygote.run(broken) == 0
        assert result(broken) == result(whole)

    def test_three_attempts_without_progress_wait_for_a_person(
        self, zygote: Zygote, job: MakeJob, place: Workspace
    ) -> None:
        paths, queue = job(), Queue(place)
        for attempt in (1, 2, 3):
            assert zygote.run(paths, kill_at=5) == -signal.SIGKILL
            assert paths.saved_step() == 3
            assert runner.attempts_without_progress(paths) == attempt
            if attempt < 3:
                seconds = queue.seconds_to_retry(paths)
                assert seconds is not None
                assert 0 < seconds <= 8
                again(paths)
        assert queue.seconds_to_retry(paths) is None

    def test_it_goes_back_to_the_queue_by_itself(
        self, zygote: Zygote, job: MakeJob, place: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sdlora.jobs.queue.RETRY_SECONDS", 0.2)
        started: list[JobPaths] = []
        monkeypatch.setattr(runner, "start", lambda paths: bool(started.append(paths)) or True)
        paths, queue = job(), Queue(place)
        zygote.run(paths, kill_at=4)
        queue.tick()
        assert runner.status(paths) == "interrupted"
        time.sleep(0.3)
        queue.tick()
        assert runner.status(paths) == "queued"
        assert started == [paths]


def test_row_2_killed_inside_a_state_write(zygote: Zygote, job: MakeJob) -> None:
    whole = job()
    zygote.run(whole)
    for operation in (3, 25, 33, 40):  # in the first save and in the second
        broken = job()
        assert zygote.run(broken, kill_in_save=operation) == -signal.SIGKILL
        again(broken)
        assert zygote.run(broken) == 0
        assert result(broken) == result(whole)
        assert not list(broken.state.glob(".*"))


def test_row_4_a_full_disk_pauses_and_goes_on(
    zygote: Zygote, job: MakeJob, place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, paths = job(), job()
    zygote.run(whole)
    assert zygote.run(paths, full_disk="/.step-000006") == 74
    outcome = outcome_of(paths)
    assert (runner.status(paths), outcome.exit_code) == ("paused", 74)
    assert f"needs {outcome.needed_bytes >> 20} MB" in outcome.reason_en
    assert paths.saved_step() == 3, "the earlier state stands"
    monkeypatch.setattr(runner, "start", lambda paths: True)
    with monkeypatch.context() as full:
        full.setattr("sdlora.jobs.queue.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))  # type: ignore[attr-defined]
        Queue(place).tick()
        assert runner.status(paths) == "paused"
    Queue(place).tick()
    assert runner.status(paths) == "queued"
    assert zygote.run(paths) == 0
    assert result(paths) == result(whole)


@pytest.mark.parametrize("where", ["/samples/", "events.jsonl"])
def test_row_5_no_room_for_samples_or_events_costs_only_these(zygote: Zygote, job: MakeJob, where: str) -> None:
    whole, paths = job(**{"train.sample_every": 5}), job(**{"train.sample_every": 5})
    zygote.run(whole)
    assert zygote.run(paths, full_disk=where) == 0
    assert result(paths) == result(whole)
    warnings = [w.code for w in told(paths).warnings]
    assert warnings == (["samples"] if where == "/samples/" else [])


def test_row_6_damaged_states(zygote: Zygote, job: MakeJob) -> None:
    whole, paths = job(), job()
    zygote.run(whole)
    zygote.run(paths, kill_at=8)
    newest = paths.state / "step-000006" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    again(paths)
    assert zygote.run(paths, kill_at=5) == -signal.SIGKILL, "the older one was used"
    again(paths)
    for file in paths.state.glob("*/tensors.safetensors"):
        file.write_bytes(b"")
    assert zygote.run(paths) == 64
    assert "damaged" in outcome_of(paths).reason_en
    assert "壊れている" in outcome_of(paths).reason_ja


class TestRow7:
    """Out of memory."""

    def test_less_at_a_time_gives_the_same_lora(self, zygote: Zygote, job: MakeJob) -> None:
        plain = {"train.gradient_checkpointing": False, "lora.dropout": 0.0}
        whole, paths = job(**plain), job(**plain)
        zygote.run(whole)
        assert zygote.run(paths, out_of_memory=1, kill_at=7) == -signal.SIGKILL
        told_before = [w.en for w in told(paths).warnings]
        assert len(told_before) == 2
        assert "checkpointing" in told_before[0]
        assert "2 pieces" in told_before[1]
        again(paths)
        assert zygote.run(paths, out_of_memory=1) == 0
        assert len(told(paths).warnings) == 2, "kept for the resume"
        assert outcome_of(paths).step == STEPS
        close(result(paths), result(whole))

    def test_nothing_left_to_save(self, zygote: Zygote, job: MakeJob) -> None:
        paths = job()
        assert zygote.run(paths, out_of_memory=0) == 71
        assert "2.00 GiB more" in outcome_of(paths).reason_en


def close(a: bytes, b: bytes) -> None:
    """fp16 weights that differ by rounding only."""
    import numpy as np

    np.testing.assert_allclose(np.frombuffer(a, np.float16), np.frombuffer(b, np.float16), atol=2e-2)


class TestRow8:
    """Not finite."""

    def test_single_steps_are_skipped_and_remembered(self, zygote: Zygote, job: MakeJob) -> None:
        whole, paths = job(), job()
        assert zygote.run(whole, not_finite=[4, 9]) == 0
        assert zygote.run(paths, not_finite=[4, 9], kill_at=8) == -signal.SIGKILL
        again(paths)
        assert zygote.run(paths, not_finite=[4, 9]) == 0
        assert result(paths) == result(whole)

    def test_three_in_a_row_stop_with_advice(self, zygote: Zygote, job: MakeJob) -> None:
        paths = job()
        assert zygote.run(paths, not_finite=[6, 7, 8]) == 76
        assert "learning rate" in outcome_of(paths).reason_en
        assert [p.name for p in paths.checkpoints.iterdir()] == ["step-000005.safetensors"]

    def test_a_picture_that_cannot_be_encoded_is_named(self, zygote: Zygote, job: MakeJob, dataset: Dataset) -> None:
        paths = job()
        assert zygote.run(paths, nan_latents=dataset.items[3].sha256) == 64
        assert dataset.items[3].caption in outcome_of(paths).reason_en


def test_row_9_a_lost_gpu_is_tried_three_times_then_the_queue_waits(
    zygote: Zygote, job: MakeJob, place: Workspace
) -> None:
    paths, next_one = job(), job()
    for _ in range(2):
        assert zygote.run(paths, gpu_lost=5) == 75
        again(paths)
    assert zygote.run(paths, gpu_lost=5) == 75
    assert runner.status(paths) == "paused"
    Queue(place).tick()
    assert runner.status(next_one) == "queued", "it would be lost on it too"
    runner.resume(paths)
    assert runner.status(paths) == "queued"


@pytest.mark.parametrize("fault", [{}, {"long_kernel": 7}])
def test_row_10_sigterm_commits_the_last_whole_step(zygote: Zygote, job: MakeJob, fault: dict[str, int]) -> None:
    changes = {} if fault else {"train.steps": 5000}
    whole, paths = job(), job(**{**changes, "train.state_every": 1000})
    pid = zygote.start(paths, **fault)
    while told(paths).step < 7:
        time.sleep(0.02)
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    assert zygote.end() == 143
    assert time.monotonic() - began < 5
    assert runner.status(paths) == "interrupted"
    assert paths.saved_step() >= 7
    if fault:
        assert paths.saved_step() == 7
        zygote.run(whole)
        again(paths)
        assert zygote.run(paths) == 0
        assert result(paths) == result(whole)


def test_row_11_one_worker_a_job(zygote: Zygote, job: MakeJob, place: Workspace) -> None:
    paths, second = job(**{"train.steps": 5000}), job()
    pid = zygote.start(paths)
    while told(paths).step < 2:
        time.sleep(0.02)
    assert runner.status(paths) == "running"
    assert not runner.start(paths)
    assert runner.start_next(place) is None
    assert [j.place for j in runner.jobs(place) if j.spec.id == second.id] == [1]
    os.kill(pid, signal.SIGKILL)
    zygote.end()


def test_row_12_a_changed_base_blocks(zygote: Zygote, job: MakeJob, tiny_base: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(tiny_base, mine)
    queued, killed = job(**{"model.base": str(mine)}), job(**{"model.base": str(mine)})
    zygote.run(killed, kill_at=4)
    again(killed)
    weights = mine / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    for paths in (queued, killed):
        assert zygote.run(paths) == 64
        assert "Blocked: the base model" in outcome_of(paths).reason_en
    assert not queued.checkpoints.exists()
    shutil.rmtree(mine)
    runner.resume(queued)
    assert zygote.run(queued) == 64
    shutil.copytree(tiny_base, mine)
    runner.resume(killed)
    assert zygote.run(killed) == 0


def test_row_13_a_deleted_data_set(zygote: Zygote, job: MakeJob, dataset: Dataset) -> None:
    whole, paths = job(), job()
    zygote.run(whole)
    links = (paths.dataset / dataset.items[0].file).stat().st_nlink
    assert links >= 3, "linked, not copied"
    delete_dataset(dataset)
    shutil.rmtree(paths.workspace.cache)
    assert zygote.run(paths) == 0
    assert result(paths) == result(whole)
    assert (paths.dataset / dataset.items[0].file).stat().st_nlink == links - 1


def test_row_14_a_clock_that_jumps(zygote: Zygote, job: MakeJob) -> None:
    whole, paths = job(), job()
    zygote.run(whole)
    zygote.run(paths, kill_at=7, clock=-86_400.0)
    for number, folder in enumerate(sorted(paths.state.iterdir(), reverse=True)):
        os.utime(folder, (number * 1e6, number * 1e6))  # the oldest looks newest
    again(paths)
    assert zygote.run(paths, clock=86_400.0) == 0
    assert result(paths) == result(whole)
    assert 0 < outcome_of(paths).seconds < 3600


def test_row_15_settings_that_are_refused_are_not_tried_again(zygote: Zygote, job: MakeJob, place: Workspace) -> None:
    paths = job()
    text = paths.job.read_text()
    paths.job.write_text(text.replace('"rank": 2', '"rank": -2'))
    assert zygote.run(paths) == 64
    Queue(place).tick()
    assert runner.status(paths) == "failed"
    assert HARD["lora.rank"] == 2
