"""The events of jobs, read once for all open pages: each poll reads only what was appended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sdlora.core.events import Follower
from sdlora.core.lru_cache import LruCache
from sdlora.jobs.paths import JobPaths

MAX_JOBS = 8  # the follower of a run of 100,000 steps holds about 20 MB


class EventCache:
    """The followers of the jobs that were looked at last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._followers: LruCache[str, Follower] = LruCache(MAX_JOBS)

    @contextmanager
    def follow(self, paths: JobPaths) -> Iterator[Follower]:
        """The follower of a job, up to date. One page at a time: a follower changes while it reads, for milliseconds."""
        with self._lock:
            follower = self._followers.get_or_make(paths.id, lambda: Follower(paths.events))
            follower.poll()
            yield follower
