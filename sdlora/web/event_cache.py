"""Follows the events of jobs for all open pages: each file is read once, however many browsers look."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from sdlora.core.events import Follower
from sdlora.jobs.paths import JobPaths

KEPT = 8  # followers in memory; one of a run of 100,000 steps holds about 20 MB


class Watch:
    """The followers of the jobs looked at last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._followers: OrderedDict[str, Follower] = OrderedDict()

    @contextmanager
    def follow(self, paths: JobPaths) -> Iterator[Follower]:
        """What is known of a job by now. Only one page reads at a time: reading takes milliseconds."""
        with self._lock:
            follower = self._followers.pop(paths.id, None) or Follower(paths.events)
            self._followers[paths.id] = follower
            if len(self._followers) > KEPT:
                self._followers.popitem(last=False)
            follower.poll()
            yield follower
