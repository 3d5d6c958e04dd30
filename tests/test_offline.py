"""Without any network: the bundled base trains."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser import ROOT
from tests.conftest import draw_pictures


def can_unshare(*options: str) -> bool:
    """New namespaces need root, and a machine that allows them."""
    command = ["unshare", *options, "true"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


needs_no_network = pytest.mark.skipif(not can_unshare("--net"), reason="unshare --net is not allowed here")


@needs_no_network
def test_training_on_the_bundled_base_needs_no_network(tmp_path: Path) -> None:
    pictures = draw_pictures(tmp_path / "pictures", 3)
    fast = ("train.steps=2", "lora.rank=1", "lora.targets=attention", "sample.steps=1", "sample.prompts=red disc")
    words = [word for setting in fast for word in ("--set", setting)]
    command = ["unshare", "--net", sys.executable, "-m", "sdlora", "train", str(pictures), *words, "--json"]
    environment = {
        **os.environ,
        "SDLORA_WORKSPACE": str(tmp_path / "workspace"),
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "done"
