"""What `CONTRIBUTING.md` says of adding something, tried: a dummy goes in with the files it names, and everything else follows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(("language", "title", "count"), [("en", "Dummy", "0 jobs"), ("ja", "ダミー", "0 件")])
def test_a_screen(tmp_path: Path, language: str, title: str, count: str) -> None:
    """A file in `screens/`, a file in `strings/`, a line in `SCREENS`: header, section, restoring and live parts follow."""
    command = [sys.executable, "-m", "tests.dummy_screen", str(tmp_path), language]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    config = json.loads(done.stdout.splitlines()[-1])
    parts = {c["props"].get("elem_id"): c for c in config["components"]}
    assert {"pictures", "settings", "train", "try", "library", "dummy"} <= set(parts)
    assert f'<a href="#dummy"><b>6</b><span>{title}</span></a>' in parts["header"]["props"]["value"]
    assert parts["dummy-count"]["props"]["value"] == count
    tick = next(d for d in config["dependencies"] if parts["sent"]["id"] in d["outputs"])
    assert parts["dummy-count"]["id"] in tick["outputs"]  # drawn anew while jobs run


FIELD = """
    dummy: int = setting(3, Text("Dummy", "ダミー"), Text("A setting of a test.", "テスト用の設定。"), ge=0, le=9)
"""
RULE = """
    InactiveRule("train.dummy", lambda v: v["train.warmup_steps"] == 0, Text("there is no warm-up", "ウォームアップがないため")),
"""


def test_a_setting(tmp_path: Path) -> None:
    """A field, and a rule where it may be without effect: form, command line, refusals, `job.json`, table follow."""
    edited_config(
        tmp_path, {"training.py": ("class TrainSettings(Section):", FIELD), "inactive.py": ("INACTIVE_RULES = (", RULE)}
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}

    def run(*words: str) -> str:
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    found = json.loads(run("-m", "tests.dummy_setting").splitlines()[-1])
    assert found == {
        "element": "train-dummy",
        "greyed where it has no effect": True,
        "in job.json": 4,
        "too large": "train.dummy は 10 ですが、0 から 9 までの整数が必要です。",
        "no integer": "train.dummy は '3.5' ですが、0 から 9 までの整数が必要です。",
        "without effect": found["without effect"],
        "reason": "ウォームアップがないため",
    }
    assert "ウォームアップがないため" in found["without effect"]
    assert "| `train.dummy` | 3 | 0 to 9 | A setting of a test. |" in run("-m", "sdlora", "settings", "--markdown")


def edited_config(folder: Path, insertions: dict[str, tuple[str, str]]) -> None:
    """The package in `folder`, linked but for `config`, in whose files something is inserted behind a line."""
    package = folder / "sdlora"
    package.mkdir()
    (folder / "presets").symlink_to(ROOT / "presets")
    for child in (ROOT / "sdlora").iterdir():
        if child.name != "config":
            (package / child.name).symlink_to(child)
    shutil.copytree(ROOT / "sdlora" / "config", package / "config", ignore=shutil.ignore_patterns("__pycache__"))
    for name, (behind, text) in insertions.items():
        file = package / "config" / name
        source = file.read_text(encoding="utf-8")
        assert source.count(behind) == 1
        file.write_text(source.replace(behind, behind + text), encoding="utf-8")
