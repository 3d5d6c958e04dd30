"""What a container asks of the app, without one: the first process of its namespace, and no network at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdlora.jobs import runner, store
from sdlora.jobs.paths import Workspace
from tests.browser import ROOT, App, started_app
from tests.conftest import draw_pictures
from tests.web.asking import ask


def can_unshare(*options: str) -> bool:
    """New namespaces need root, and a machine that allows them."""
    command = ["unshare", *options, "true"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


pytestmark = pytest.mark.faults
ISOLATED = ("--fork", "--pid", "--mount-proc", "--kill-child")
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


@pytest.fixture(params=["first process", "behind an init"])
def app(request: pytest.FixtureRequest, tmp_path: Path, tiny_base: Path) -> Iterator[App]:
    """Running in its own process namespace, or as some process that was told to take its workers along."""
    wrapper = ("unshare", *ISOLATED) if request.param == "first process" else ()
    if wrapper and not can_unshare(*ISOLATED):
        pytest.skip("unshare --pid is not allowed here")
    options = () if wrapper else ("--end-workers",)
    environment = {"SDLORA_BASES": str(tiny_base.parent)}
    with started_app(tmp_path / "workspace", *options, wrapper=wrapper, **environment) as made:
        yield made


def test_a_stopped_container_leaves_a_job_that_goes_on(app: App, tmp_path: Path) -> None:
    """`docker stop`: SIGTERM to the first process, and SIGKILL to all ten seconds later."""
    token = (app.workspace / "api-token").read_text().strip()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    archive = shutil.make_archive(str(tmp_path / "set"), "zip", draw_pictures(tmp_path / "pictures", 4))
    dataset = json.loads(ask(app, "POST", "/api/datasets", headers, Path(archive).read_bytes()).body)["id"]
    settings = {
        "train.steps": 100_000,
        "train.state_every": 100_000,
        "lora.rank": 2,
        "sample.steps": 1,
        "model.base": "tiny",
    }
    answer = ask(app, "POST", "/api/jobs", headers, json.dumps({"dataset": dataset, "settings": settings}).encode())
    job = json.loads(answer.body)["id"]
    deadline = time.monotonic() + 200
    while json.loads(ask(app, "GET", f"/api/jobs/{job}", headers).body)["step"] < 3:
        assert time.monotonic() < deadline
        time.sleep(0.2)

    began = time.monotonic()
    os.kill(_first(app), signal.SIGTERM)
    app.process.wait(15)
    assert time.monotonic() - began < 8
    place = Workspace(app.workspace)
    paths = place.job(store.find(place, job).id)
    assert runner.status(paths) == "interrupted"
    assert paths.saved_step() >= 3


def _first(app: App) -> int:
    """The app itself, behind `unshare`."""
    children = Path(f"/proc/{app.process.pid}/task/{app.process.pid}/children").read_text().split()
    behind = b"unshare" in Path(f"/proc/{app.process.pid}/cmdline").read_bytes().split(b"\0")[0]
    return int(children[0]) if behind else app.process.pid
