"""States by a thread: training goes on, a fault is told, and what is written is the step that it claims."""

from __future__ import annotations

import errno
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from sdlora.core.errors import DiskFull, Diverged
from sdlora.core.events import Stepped
from sdlora.train import resume, setup, state_writer
from sdlora.train.resume import State, require_finite
from sdlora.train.run import Control, run
from sdlora.train.state_writer import StateWriter
from tests.test_train import Trained

SHORT: dict[str, Any] = {"train.steps": 6, "train.state_every": 2, "sample.draw": False, "train.ema": 0.9}


class InBackground(StateWriter):
    """As on a GPU."""

    def __init__(self, background: bool) -> None:
        super().__init__(background=True)


@pytest.fixture
def in_background(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "StateWriter", InBackground)
    monkeypatch.setattr(state_writer, "GPU_SECONDS", 0.0)


@pytest.mark.usefixtures("in_background")
def test_a_slow_disk_does_not_hold_the_steps_and_the_state_is_of_its_own_step(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of step 2 is written only when step 4 is done; resuming from it gives the bytes of an unbroken run."""
    whole = Trained(tmp_path / "whole", tiny_base, **SHORT)()
    trained = Trained(tmp_path / "slow", tiny_base, stop_at=5, **SHORT)
    save, waited = resume.save, list[bool]()
    later = threading.Event()

    def slow(folder: Path, state: State) -> None:
        if state.step == 2:
            waited.append(later.wait(60))
        save(folder, state)
        if state.step == 2:
            shutil.copytree(folder / "step-000002", tmp_path / "kept")

    def emit(event: Any) -> None:
        trained.events.append(event)
        if isinstance(event, Stepped) and event.step == 4:
            later.set()

    monkeypatch.setattr(resume, "save", slow)
    control = Control(trained._should_stop, keep=lambda: True, on_ready=lambda save: None)
    run(trained.request, trained.folders, emit, control)
    assert waited == [True]
    shutil.rmtree(trained.folders.state)
    shutil.copytree(tmp_path / "kept", trained.folders.state / "step-000002")
    again = Trained(tmp_path / "slow", tiny_base, **SHORT)
    assert again().sha256 == whole.sha256
    assert again.of(Stepped)[0].step == 3


@pytest.mark.usefixtures("in_background")
def test_a_full_disk_in_the_thread_ends_the_training(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, state: State) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(resume, "save", full)
    with pytest.raises(DiskFull):
        Trained(tmp_path, tiny_base, **SHORT)()


def test_not_more_often_than_the_clock_allows() -> None:
    now = [100.0]
    writer, written = StateWriter(background=True, clock=lambda: now[0]), list[int]()
    for step, time in enumerate((100.0, 101.0, 119.0, 121.0)):
        now[0] = time
        writer.wait()
        if writer.is_due():
            writer.start(lambda step=step: written.append(step))  # type: ignore[misc]
    writer.wait()
    assert written == [0, 3]
    assert StateWriter(background=False).is_due()


def test_one_value_that_is_not_finite_is_found() -> None:
    tensors = {str(k): torch.ones(3) for k in range(4)} | {"counts": torch.ones(2, dtype=torch.uint8)}
    require_finite(State(1, tensors, {}))
    for value in ("nan", "inf"):
        tensors["2"][1] = float(value)
        with pytest.raises(Diverged):
            require_finite(State(1, tensors, {}))
