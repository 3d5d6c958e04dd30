"""Progress of a command on stderr: a bar with the time left on a terminal, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import Progress

Advance = Callable[[int, int], None]  # (done, total)


@contextmanager
def progress_bar(title: str) -> Iterator[Advance]:
    """Show progress during a block. Lines read `merging: 12 of 278`; `library.tasks` parses them."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(title, console).advance
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@dataclass
class _Lines:
    title: str
    console: Console
    last: float = float("-inf")

    def advance(self, done: int, total: int) -> None:
        """At most one line a second."""
        now = time.monotonic()
        if now - self.last >= 1.0 and done < total:
            self.last = now
            self.console.print(f"{self.title}: {done} of {total}", highlight=False, soft_wrap=True)
