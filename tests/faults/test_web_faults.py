"""Row 3, and row 10 as `docker stop` does it: what becomes of a real worker when the web process goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from sdlora.jobs import runner
from sdlora.jobs.job_list import JobList
from sdlora.jobs.paths import Workspace
from sdlora.jobs.queue import Queue
from sdlora.web import server
from sdlora.web.context import Site
from sdlora.web.event_cache import EventCache
from sdlora.web.previews import Previews
from sdlora.web.security.media import Media
from tests.browser import ROOT, started_app
from tests.faults.conftest import MakeJob
from tests.fork_server import COMPUTE, PAGE, ForkServers
from tests.jobs import processes, told, wait

pytestmark = pytest.mark.faults
LONG = {"train.steps": 100_000, "train.state_every": 1000}


def test_row_3_the_web_process_is_killed(
    job: MakeJob, place: Workspace, browser: Browser, fork_server: ForkServers
) -> None:
    paths, python = job(**LONG), fork_server.need(COMPUTE, PAGE)
    with started_app(place.root, python=python) as app:
        wait(lambda: told(paths).step >= 3)
        worker = processes(paths.folder)
        assert len(worker) == 1
        app.process.kill()
        app.process.wait()
    before = told(paths).step
    wait(lambda: told(paths).step > before + 3)
    with started_app(place.root, python=python) as app:
        page = browser.new_page()
        page.goto(app.url)
        expect(page.locator("#progress")).to_contain_text("Running", timeout=120_000)
        expect(page.locator("#progress")).to_contain_text("job0")
        assert processes(paths.folder) == worker
        assert runner.attempts(paths) == 1
        page.click("#train-stop")  # and it can be steered
        expect(page.locator("#progress")).to_contain_text("Stopped", timeout=120_000)
    wait(lambda: not processes(paths.folder), 10)


NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def namespace() -> list[str]:
    """How to be number 1 of a container: everything in it is killed when that one has left."""
    inside = [*NAMESPACE, *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    try:
        subprocess.run([*inside, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no process namespaces here")
    return inside


@pytest.mark.parametrize("number_1", [True, False])
def test_row_10_a_container_is_stopped(
    job: MakeJob, place: Workspace, number_1: bool, fork_server: ForkServers
) -> None:
    """With another number 1, such as tini, a flag says that it is one."""
    inside = namespace() if number_1 else []
    paths = job(**LONG)
    python = sys.executable if number_1 else fork_server.need(COMPUTE, PAGE)
    command = [*inside, python, "-m", "sdlora", "app", "--port", "0", "--workspace", str(place.root)]
    process = subprocess.Popen(
        [*command, *([] if number_1 else ["--end-workers"])], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        wait(lambda: told(paths).step >= 7)
        app = process.pid
        if number_1:
            app = int(Path(f"/proc/{app}/task/{app}/children").read_text().split()[0])
        os.kill(app, signal.SIGTERM)
        process.wait(120)  # `docker stop` kills after 10 s: the app waits 2 for pages and 6 for workers
    finally:
        process.kill()
        process.wait()
        left = processes(paths.folder)
        for pid in left.values():
            os.kill(pid, signal.SIGKILL)
    assert not left
    wait(lambda: runner.status(paths) == "interrupted", 5)
    assert paths.saved_step() >= 7


def test_the_queues_clock_outlives_a_fault(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that stopped would leave jobs waiting for good, with a page that looks alive."""
    ticks: list[int] = []

    def tick(self: Queue) -> None:
        ticks.append(1)
        raise ValueError("as a damaged file would")

    monkeypatch.setattr(Queue, "tick", tick)
    (place.root / "uploads").mkdir()
    site, ended = (
        Site(place, Media(place.root), Previews(place.previews), EventCache(), JobList(place)),
        threading.Event(),
    )
    clock = threading.Thread(target=server._clock, args=(site, ended))
    clock.start()
    wait(lambda: len(ticks) >= 2, 30)
    ended.set()
    clock.join()
