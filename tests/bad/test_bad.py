"""Bad files and settings against the commands: each accepted or refused as it must be, in one sentence, in little time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sdlora import cli
from sdlora.cli import train
from tests.bad import loras, pictures, settings, zips
from tests.bad.case import Case
from tests.browser import ROOT

COMMANDS = {
    "dataset add": [*pictures.cases(), *zips.cases()],
    "inspect": [*loras.cases()],
    "train": [*settings.cases()],
}
ALL = [(command, case) for command, cases in COMMANDS.items() for case in cases]
# Each import starts a child that decodes: of those one in six every time, the others with `pytest -m bad`.
RARE = [case.name for k, case in enumerate(COMMANDS["dataset add"]) if k % 6]
SECONDS, BYTES = 60.0, 700_000_000  # of the real command; a busy machine is slow, not wrong


def marks(case: Case) -> list[pytest.MarkDecorator]:
    return [pytest.mark.bad] if case.name in RARE else []


def words_of(command: str, case: Case, folder: Path) -> list[str]:
    given = case.make(folder)
    if command == "train":
        good = folder / "pictures"
        good.mkdir()
        (good / "a.png").write_bytes(pictures.encoded())
        return ["train", str(good), *given]
    return [*command.split(), *given, "--json"]


@pytest.mark.parametrize(("command", "case"), [pytest.param(*one, id=one[1].name, marks=marks(one[1])) for one in ALL])
def test_bad(
    command: str,
    case: Case,
    tmp_path: Path,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In this process. A job that is accepted is written, not trained."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(train, "watch", lambda paths, out, as_json: print(paths.job.read_text()))
    (tmp_path / "in").mkdir()
    monkeypatch.setattr(sys, "argv", ["sdlora", *words_of(command, case, tmp_path / "in")])
    with pytest.raises(SystemExit) as ended:
        cli.main()  # typer leaves by sys.exit in any case
    said = capfd.readouterr()
    judge(case, ended.value.code or 0, said.out, said.err)
    if case.verdict == "refused" and command == "dataset add":
        assert not [left for left in (workspace / "datasets").iterdir() if not left.name.startswith(".")]


# Runs a command and writes its peak memory in KB. From a process of its own: one begun by these tests would count from their memory on.
MEASURED = """import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)"""
REAL = [(command, case) for command, case in ALL if case.real]


@pytest.mark.bad
@pytest.mark.parametrize(("command", "case"), REAL, ids=[case.name for _, case in REAL])
def test_bad_on_the_real_command_line(command: str, case: Case, tmp_path: Path, workspace: Path) -> None:
    (tmp_path / "in").mkdir()
    words = words_of(command, case, tmp_path / "in")
    out, err, peak = tmp_path / "out.txt", tmp_path / "err.txt", tmp_path / "peak.txt"
    began = time.monotonic()
    with open(out, "wb") as stdout, open(err, "wb") as stderr:
        command_line = [sys.executable, "-c", MEASURED, str(peak), sys.executable, "-m", "sdlora", *words]
        code = subprocess.run(command_line, cwd=ROOT, stdout=stdout, stderr=stderr, check=False).returncode
    assert time.monotonic() - began < SECONDS
    assert int(peak.read_text()) * 1024 < BYTES
    judge(case, code, out.read_text(), err.read_text())


def judge(case: Case, code: int | str, out: str, err: str) -> None:
    assert "Traceback" not in out + err
    if case.verdict == "refused":
        assert code == 2, (out, err)
        assert err.strip()
        assert case.says in err
        assert len(err) < 2500
        return
    assert code == 0, err
    last = out.splitlines()[-1] if out else ""
    assert case.says in out
    if case.verdict == "left out":
        found = json.loads(last)
        assert found["items"]
        assert found["skipped"]
