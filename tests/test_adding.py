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
def test_a_screen(tmp_path: Path, language: str, title: str, count: str, forking_python: str) -> None:
    """A file in `screens/`, a file in `strings/`, a line in `SCREENS`: header, section, restoring and live parts follow."""
    command = [forking_python, "-m", "tests.dummy_screen", str(tmp_path), language]
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
    config = edited_package(tmp_path, "config") / "config"
    insert(config / "training.py", "class TrainSettings(Section):", FIELD)
    insert(config / "inactive.py", "INACTIVE_RULES = (", RULE)
    found = json.loads(run(tmp_path, "tests.dummy_setting").splitlines()[-1])
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
    assert "| `train.dummy` | 3 | 0 to 9 | A setting of a test. |" in run(tmp_path, "sdlora", "settings", "--markdown")


def test_an_adapter_kind(tmp_path: Path, tiny_base: Path) -> None:
    """A file in `kinds/` and a word in the Literal: it is chosen, trained, written, proved, drawn and recognised."""
    package = edited_package(tmp_path, "config", "adapters")
    shutil.copy(ROOT / "tests" / "dummy_kind.py", package / "adapters" / "kinds" / "dummy.py")
    insert(package / "config" / "adapters.py", "Kind = Literal[", '"dummy", ')
    values = {
        "lora.kind": "dummy",
        "lora.rank": 2,
        "train.steps": 2,
        "train.resolution": 32,
        "train.save_every": 1,
        "data.held_out": 0,
        "sample.steps": 1,
    }
    settings = [word for path, value in values.items() for word in ("--set", f"{path}={value}")]
    pictures = package / "bundled" / "pictures"
    out = run(tmp_path, "sdlora", "train", str(pictures), "--base", str(tiny_base), *settings, "--json")
    done = json.loads(out.splitlines()[-1])
    assert done["status"] == "done"
    assert list((tmp_path / "workspace" / "jobs" / done["job"] / "samples").glob("*.png"))
    about = json.loads(run(tmp_path, "sdlora", "inspect", done["file"], "--json").splitlines()[-1])
    assert (about["format"], about["rank"]) == ("dummy", 2)


def edited_package(folder: Path, *rooms: str) -> Path:
    """The package in `folder`: these rooms as copies to be edited, the others as links."""
    package = folder / "sdlora"
    package.mkdir()
    (folder / "presets").symlink_to(ROOT / "presets")
    for child in (ROOT / "sdlora").iterdir():
        if child.name in rooms:
            shutil.copytree(child, package / child.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (package / child.name).symlink_to(child)
    return package


def insert(file: Path, behind: str, text: str) -> None:
    source = file.read_text(encoding="utf-8")
    assert source.count(behind) == 1
    file.write_text(source.replace(behind, behind + text), encoding="utf-8")


def run(folder: Path, module: str, *words: str) -> str:
    """What `python -m` with the package in this folder prints."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
