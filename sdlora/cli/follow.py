"""Follow a job on the terminal until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sdlora.core.events import Follower, Phase
from sdlora.jobs import runner
from sdlora.jobs.launchers.launcher import Launcher
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.queue import Queue

_FINAL = ("done", "stopped", "failed", "paused")
_PHASES = {
    "loading": "loading the base",
    "caching": "encoding pictures",
    "measuring": "measuring what the run takes",
    "training": "training",
    "sampling": "drawing samples",
    "judging": "judging",
}


def follow(paths: JobPaths) -> runner.Status:
    """Run the queue until the job ends, and show its progress. Ctrl-C stops the job; a second one leaves it running."""
    console = Console(stderr=True)
    follower, queue = Follower(paths.events), Queue(paths.workspace, Launcher.from_environment())
    show = _bar(console) if console.is_terminal else _Lines(console)
    stopping = estimate_shown = False
    with show:
        while True:
            try:
                state = _tick(paths, follower, queue, show.update)
                if follower.estimate and not estimate_shown:
                    estimate_shown = True
                    console.print(f"Measured beforehand: {follower.estimate.text.en}.")
                if state in _FINAL or (state == "interrupted" and queue.seconds_to_retry(paths) is None):
                    return state
                time.sleep(0.2)
            except KeyboardInterrupt:
                if stopping:
                    raise
                stopping = True
                console.print("Stopping after this step; press Ctrl-C again to leave it running.")
                runner.stop(paths)


def _tick(paths: JobPaths, follower: Follower, queue: Queue, update: Callable[[str, int, int], None]) -> runner.Status:
    state = runner.status(paths)  # read before the events, so that none is missed at the end
    queue.tick()
    has_news = follower.poll()
    for warning in follower.warnings:
        update(warning.en, follower.step, 0)
    follower.warnings.clear()
    if has_news:
        _show(follower, update)
    return state


def _show(follower: Follower, update: Callable[[str, int, int], None]) -> None:
    phase = follower.phase or Phase("loading")
    if phase.name == "judging" or not follower.steps:
        update(_PHASES.get(phase.name, phase.name), phase.done, phase.total)
        return
    assert follower.started is not None
    last = follower.steps[follower.step]
    update(f"training, loss {last.loss:.4f}", follower.step, follower.started.steps)


class _Bar(Progress):
    def update(self, words: str, done: int, total: int) -> None:  # type: ignore[override]
        task = self.tasks[0].id if self.tasks else self.add_task(words)
        super().update(task, description=words, completed=done, total=total or None)


def _bar(console: Console) -> _Bar:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return _Bar(*columns, console=console, transient=True)


@dataclass
class _Lines:
    """Without a terminal: a line every ten seconds."""

    console: Console
    last: float = 0.0

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, words: str, done: int, total: int) -> None:
        if time.monotonic() - self.last > 10:
            self.last = time.monotonic()
            self.console.print(f"{words} ({done} of {total})" if total else words)
