"""One started app and one Chromium for all tests of the page."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import App, started_app
from tests.conftest import draw_pictures

TIMEOUT = 120_000  # milliseconds: a busy machine is slow, not wrong
expect.set_options(timeout=TIMEOUT)

HOSTILE = "<img src=x onerror=document.title='owned'><b>bold</b> {{value}} ${1+1} @children"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, forking_python: str) -> Iterator[App]:
    """A fork: one that starts from nothing serves tests/test_real.py and half of tests/web/test_enemy.py."""
    workspace = tmp_path_factory.mktemp("page") / "workspace"
    with started_app(workspace, python=forking_python, SDLORA_BASES=str(tiny_base.parent)) as made:
        yield made


@pytest.fixture
def open_page(app: App, browser: Browser) -> Iterator[Callable[..., Page]]:
    """open_page("/ja/") is a page of a browser of its own, ready to use; `stranger` options go to the browser."""
    opened = []

    def go(path: str = "/en/", **stranger: object) -> Page:
        context = browser.new_context(**stranger)  # type: ignore[arg-type]
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT)
        page.goto(app.url + path)
        page.wait_for_selector("#upload input[type=file]", state="attached")
        page.wait_for_selector("#comparison .comparison, #comparison .problem")
        return page

    yield go
    for context in opened:
        context.close()


@pytest.fixture(scope="session")
def zip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten discs with captions, one of them hostile, one file that is no picture."""
    folder = tmp_path_factory.mktemp("zip")
    pictures = draw_pictures(folder / "pictures", 10)
    (pictures / "disc3.txt").write_text(HOSTILE)
    (pictures / "broken.png").write_bytes(b"\x89PNG nothing")
    target = folder / "discs.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(pictures.iterdir()):
            archive.write(path, path.name)
    return target
