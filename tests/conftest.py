"""What tests share: a tiny random base in Stable Diffusion's layout, pictures, a workspace."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser

from tests.fork_server import COMPUTE, PAGE, ForkServers

# Tests run side by side, a core each. Two spinning threads a test on two busy cores made one of 5 seconds last 184.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Whoever starts a process would measure for up to 0.4 s whether the machine is idle: with one thread nothing spins.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

# Begun first, in this order: at the end they would run alone.
LONGEST = ("test_real.py", "test_distributed.py", "test_ray.py", "faults", "web")

COLOURS = ["red", "green", "blue", "orange", "purple", "black", "teal", "brown", "gold", "pink"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return min(LONGEST.index(part) if part in LONGEST else len(LONGEST) for part in item.path.parts[-2:])

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """The garbage collector would walk all that torch and diffusers define: it sleeps meanwhile, and leaves it out later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of 0.3 M parameters that draws noise."""
    from tests.tiny import make_base

    return make_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of the page."""
    from tests.browser import started_browser

    with started_browser() as made:
        yield made


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServers]:
    made = ForkServers(tmp_path_factory.mktemp("fork"))
    yield made
    made.end()


@pytest.fixture(scope="session")
def forking_python(fork_server: ForkServers) -> str:
    """The interpreter of an app that is a fork, as are its workers, previewers and commands."""
    return fork_server.need(COMPUTE, PAGE)


@pytest.fixture
def forked(fork_server: ForkServers, monkeypatch: pytest.MonkeyPatch) -> str:
    """Commands, workers and previewers that this test starts are forks. Returns the interpreter, for what starts from nothing."""
    real = sys.executable
    monkeypatch.setattr(sys, "executable", fork_server.need(COMPUTE))
    return real


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return draw_pictures(tmp_path / "pictures", 10)


def draw_pictures(folder: Path, count: int, size: int = 64) -> Path:
    """Discs on white, each with a caption file."""
    folder.mkdir(parents=True)
    for k in range(count):
        colour = COLOURS[k % len(COLOURS)]
        picture = Image.new("RGB", (size, size), "white")
        ImageDraw.Draw(picture).ellipse((8 + k, 8, size - 8, size - 8 - k), fill=colour, outline="black", width=3)
        picture.save(folder / f"disc{k}.png")
        (folder / f"disc{k}.txt").write_text(f"{colour} disc {k}")
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SDLORA_WORKSPACE", str(tmp_path / "workspace"))
    return tmp_path / "workspace"
