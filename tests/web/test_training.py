"""Training as the page shows it, on a random tiny base: started, killed, resumed, stopped, tried, downloaded."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sdlora.jobs.paths import JobPaths
from tests.browser import App
from tests.web.test_page import upload

Open = Callable[..., Page]


def begin(page: Page, zip_file: Path, steps: int) -> None:
    upload(page, zip_file)
    page.click("#base input")
    page.get_by_role("option", name="tiny").click()
    page.locator("#preset").get_by_text("Quick look").click()
    expect(page.locator("#rank input")).to_have_value("8")
    page.fill("#steps input", str(steps))
    page.click("#train-start")
    expect(page.locator("#progress")).to_contain_text("Running")


def worker(app: App) -> int:
    """The process id of the running worker, from /proc."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if "sdlora.processes.worker" in command and str(app.workspace) in command:
            return int(folder.name)
    raise AssertionError("no worker runs")


def let_it_wait_for_a_person(app: App) -> None:
    """As after three attempts without progress. By itself it would go on within seconds, perhaps before anybody looked."""
    (log,) = (app.workspace / "jobs").glob("*/log.txt")
    step = JobPaths(log.parent).saved_step()
    for attempt in (98, 99):
        (log.parent / f"log-{attempt}-to-{step}.txt").touch()


@pytest.mark.xfail(
    strict=False, reason="open: another browser finds the run, but its form keeps the goal's steps instead of the run's"
)
def test_a_killed_worker_is_seen_and_resumed_from_the_page(app: App, open_page: Open, zip_file: Path) -> None:
    page = open_page()
    begin(page, zip_file, 100_000)
    progress = page.locator("#progress")
    expect(page.locator("#loss-chart svg")).to_be_visible(timeout=600_000)
    expect(progress).to_contain_text(re.compile("steps? per second|s per step"))
    other = open_page("/ja/")  # another browser finds the same run
    expect(other.locator("#progress")).to_contain_text("実行中")
    expect(other.locator("#steps input")).to_have_value("100000")  # and what it was started with

    os.kill(worker(app), signal.SIGKILL)
    let_it_wait_for_a_person(app)
    expect(progress).to_contain_text("Interrupted")
    expect(progress).to_contain_text("waits for you")
    page.click("#train-resume")
    expect(progress).to_contain_text("Running")
    expect(page.locator("#train-resume")).to_be_hidden()

    page.click("#train-start")  # a second one waits for its turn
    expect(progress).to_contain_text("Waiting, place 1")
    page.click("#train-stop")
    expect(progress).to_contain_text("Stopped")
    page.get_by_text("All trainings").click()
    page.locator("#jobs button").last.click()
    expect(progress).to_contain_text("Running")
    page.click("#train-stop")
    expect(progress).to_contain_text("Stopped")
    expect(page.locator("#train-resume")).to_be_visible()


@pytest.mark.xfail(strict=False, reason="open: begins where the test above ends")
def test_from_start_to_download(app: App, open_page: Open, zip_file: Path) -> None:
    page = open_page()
    expect(page.locator("#progress")).to_contain_text("Stopped")  # what ran last is shown
    begin(page, zip_file, 12)
    expect(page.locator("#progress")).to_contain_text("Done", timeout=600_000)
    expect(page.locator("#verdict h3")).to_be_visible()
    expect(page.locator("#samples img").first).to_be_visible()

    page.locator("#strength input[type=range]").press("ArrowLeft")  # draws without a button
    expect(page.locator("#preview-image .base img, #preview-image .lora img")).to_have_count(2, timeout=600_000)
    strength = page.input_value("#strength input[type=number]")
    expect(page.locator("#preview-image .lora figcaption")).to_contain_text(strength)
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename.endswith(".safetensors")
    assert download.value.path().read_bytes()[8:9] == b"{"
    # After all of it, the process that serves the page has not loaded torch.
    assert "libtorch" not in Path(f"/proc/{app.pid}/maps").read_text()


def test_a_refused_start_leaves_the_page_as_it_was(open_page: Open, zip_file: Path) -> None:
    page = open_page()
    upload(page, zip_file)
    page.fill("#rank input", "0")
    page.click("#train-start")
    expect(page.locator(".toast-body")).to_contain_text("Rank")
    expect(page.locator("#train-start")).to_be_enabled()
