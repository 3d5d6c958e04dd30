"""What `CONTRIBUTING.md` says of adding something, tried: a dummy goes in with the files it names, and everything else follows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


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
