"""The real app in a process of its own, and a real Chromium to look at it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests import chromium

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class App:
    """A started app."""

    url: str
    workspace: Path
    process: subprocess.Popen[str]  # what was started; a fork that it stands for has another pid

    @property
    def pid(self) -> int:
        """The process that listens."""
        port = int(self.url.rpartition(":")[2])
        return next(
            c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port and c.pid
        )


@contextmanager
def started_app(workspace: Path, *options: str, python: str = sys.executable, **environment: str) -> Iterator[App]:
    """`python -m sdlora app` on a free port, until the block ends. `python`: the fork servers', or the real one."""
    process = subprocess.Popen(
        [python, "-m", "sdlora", "app", "--port", "0", "--workspace", str(workspace), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout
        for line in process.stdout:
            ready = re.search(r"sdlora is ready on (http://\S+)", line)
            if ready:
                yield App(ready[1], workspace, process)
                return
        raise AssertionError("the app ended before it was ready")
    finally:
        process.terminate()
        assert process.wait(15) is not None
        assert process.stdout
        process.stdout.close()


@contextmanager
def started_browser() -> Iterator[Browser]:
    """A headless Chromium; skips the test where there is none."""
    path = chromium.find()
    if not path:
        pytest.skip("no Chromium: `python -m tests.chromium` installs one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=chromium.FLAGS)
        yield browser
        browser.close()
