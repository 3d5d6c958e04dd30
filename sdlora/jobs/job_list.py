"""A cached list of all jobs for processes that poll: a job is read again only when its folder has changed."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import dataclass

from sdlora.jobs import runner
from sdlora.jobs.paths import Workspace
from sdlora.jobs.runner import Job

SCAN_SECONDS = 0.5  # between scans of all folders, however many pages poll
SETTLED_NS = 2_000_000_000  # a younger mtime is not trusted: the folder may change again within one tick of its clock


@dataclass(frozen=True)
class _CachedJob:
    """A job with the mtime of its folder; `settled` = the same mtime will mean the same content."""

    mtime_ns: int
    settled: bool
    job: Job


class JobList:
    """One per process and workspace.

    Every change of a job's status creates or removes a file in its folder (log, outcome) and so changes the folder's mtime. Only
    the end of a worker may leave no trace: the status of running jobs is read each time.
    """

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.version = ""  # changes whenever a job is added, removed or changed
        self._lock = threading.Lock()
        self._cache: dict[str, _CachedJob] = {}  # by folder name
        self._jobs: list[Job] = []
        self._root_mtime_ns = 0  # of the folder of all jobs
        self._scanned = float("-inf")  # monotonic seconds

    def jobs(self) -> list[Job]:
        """All jobs, newest first, at most half a second old; added, deleted and ended ones are seen at once."""
        with self._lock:
            stale = time.monotonic() - self._scanned > SCAN_SECONDS
            if stale or self._read_root_mtime() != self._root_mtime_ns or self._running_changed():
                self._scan()
            return self._jobs

    def jobs_now(self) -> list[Job]:
        """The same without any delay."""
        with self._lock:
            self._scan()
            return self._jobs

    def _read_root_mtime(self) -> int:
        try:
            return os.stat(self.workspace.jobs).st_mtime_ns
        except FileNotFoundError:
            return 0

    def _running_changed(self) -> bool:
        running = (job for job in self._jobs if job.running)
        return any(runner.status(self.workspace.job(job.spec.id)) != job.status for job in running)

    def _scan(self) -> None:
        self._scanned, self._root_mtime_ns = time.monotonic(), self._read_root_mtime()
        before, self._cache = self._cache, {}
        for name, mtime_ns in self._folders():
            cached = before.get(name)
            if cached and cached.settled and cached.mtime_ns == mtime_ns and not cached.job.running:
                self._cache[name] = cached
            elif job := runner.read_job(self.workspace, name, cached.job.spec if cached else None):
                self._cache[name] = _CachedJob(mtime_ns, abs(time.time_ns() - mtime_ns) > SETTLED_NS, job)
        if _content(self._cache) != _content(before):
            states = sorted((name, cached.mtime_ns, cached.job.status) for name, cached in self._cache.items())
            self.version = hashlib.sha256(repr(states).encode()).hexdigest()
            self._jobs = runner.with_queue_positions([cached.job for cached in self._cache.values()])

    def _folders(self) -> list[tuple[str, int]]:
        """Name and mtime of each job's folder; one that disappears meanwhile is left out."""
        folders = []
        for entry in os.scandir(self.workspace.jobs) if self._root_mtime_ns else ():
            try:
                folders.append((entry.name, entry.stat().st_mtime_ns))
            except OSError:
                continue
        return [(name, mtime_ns) for name, mtime_ns in folders if not name.startswith(".")]


def _content(cache: dict[str, _CachedJob]) -> dict[str, tuple[int, Job]]:
    return {name: (cached.mtime_ns, cached.job) for name, cached in cache.items()}
