"""Row 2, 4 and 6 of the fault table: whatever breaks while a state is written, a whole one is found after."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import Literal

import pytest
import torch

from sdlora.core import files
from sdlora.train import resume
from sdlora.train.resume import State
from tests.disk import Disk, Gone

pytestmark = pytest.mark.faults


def saved(step: int) -> State:
    return State(step, {"a": torch.full((64,), float(step)), "b": torch.ones(3)}, {"skipped": [], "judged": {}})


def attempt(folder: Path, disk: Disk, step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Save on a failing disk; True if that went through."""
    with monkeypatch.context() as patched:
        patched.setattr(files, "os", disk)
        try:
            resume.save(folder, saved(step))
        except (OSError, Gone):
            return False
    return True


def test_no_fault_loses_a_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operation 1, 2, 3 … of a save breaks in each way, with 0 to 7 states there before, until the save goes through."""
    ways: tuple[Literal["error", "kill", "power"], ...] = ("error", "kill", "power")
    faults = sum(injected(tmp_path, monkeypatch, how, before) for how in ways for before in range(8))
    assert faults >= 300


def injected(root: Path, monkeypatch: pytest.MonkeyPatch, how: Literal["error", "kill", "power"], before: int) -> int:
    """Break every operation of one save; how many were broken."""
    tmp_path = root / f"{how}-{before}"
    tmp_path.mkdir()
    for at in itertools.count(1):
        root = tmp_path / f"{how}-{at}"
        folder = root / "state"
        folder.mkdir(parents=True)
        for step in range(1, before + 1):
            resume.save(folder, saved(step * 10))
        step = (before + 1) * 10
        disk = Disk(how, at)
        disk.sync_all(root)
        inode = root.stat().st_ino
        whole = attempt(folder, disk, step, monkeypatch)
        if how == "power":
            disk.after_power_loss(inode, tmp_path / "after")
            shutil.rmtree(root)
            (tmp_path / "after").rename(root)
        found = resume.newest(folder)
        if found is None:
            assert before == 0
        else:
            assert found.step in (step, step - 10)
            assert found.tensors["a"].tolist() == [float(found.step)] * 64
            assert found.step == step or not whole
        assert not list(folder.glob(".*")), "leftovers are cleared"
        resume.save(folder, saved(step + 10))  # and the run can go on
        again = resume.newest(folder)
        assert again is not None
        assert again.step == step + 10
        if disk.done < at:
            return at - 1
    raise AssertionError


def test_the_disk_counts_every_operation_of_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the state were written past `sdlora.core.files`, the faults above would miss it."""
    touched: list[str] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: (touched.append(str(path)), real(path, *a, **k))[1])
    disk = Disk("error", at=0)
    monkeypatch.setattr(files, "os", disk)
    resume.save(tmp_path, saved(10))
    assert touched
    assert set(touched) == disk.seen


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "gone", "manifest"])
def test_a_damaged_state_gives_way_to_the_older_one(tmp_path: Path, damage: str) -> None:
    resume.save(tmp_path, saved(10))
    resume.save(tmp_path, saved(20))
    file = tmp_path / "step-000020" / ("manifest.json" if damage == "manifest" else "tensors.safetensors")
    data = file.read_bytes()
    if damage == "flip":
        file.write_bytes(data[:-9] + bytes([data[-9] ^ 4]) + data[-8:])
    elif damage == "gone":
        file.unlink()
    else:
        file.write_bytes(data[: len(data) // 2] if damage != "empty" else b"")
    found = resume.newest(tmp_path)
    assert found is not None
    assert found.step == 10
