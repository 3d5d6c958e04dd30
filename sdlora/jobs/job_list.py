"""All jobs as they stand, for whoever asks again and again: a job is read again only where its folder has changed."""

from __future__ import annotations

import hashlib
import os
import threading
import time

from sdlora.jobs import runner
from sdlora.jobs.paths import Workspace
from sdlora.jobs.runner import Job

LOOK_SECONDS = 0.5  # between two looks at all folders, however many pages ask
SETTLED_NS = (
    2_000_000_000  # a folder that changed later than this ago may change once more within one tick of its clock
)


class JobList:
    """One for each process that watches a workspace.

    Every change of a job's status leaves a mark in its folder (log, outcome) and so changes the folder's time; only a worker
    that ends, however it ends, may leave none: what runs is looked at each time.
    """

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.version = ""  # another one whenever a job has come, gone or changed
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[int, bool, Job]] = {}  # folder -> its time, whether that can be relied on, the job
        self._jobs: list[Job] = []
        self._added = 0  # the time of the folder of all jobs
        self._looked = float("-inf")

    def jobs(self) -> list[Job]:
        """All jobs, newest first, as they were half a second ago at most. One that was just made or deleted is seen at once."""
        with self._lock:
            if time.monotonic() - self._looked > LOOK_SECONDS or self._time() != self._added or self._running_changed():
                self._look()
            return self._jobs

    def jobs_now(self) -> list[Job]:
        with self._lock:
            self._look()
            return self._jobs

    def _time(self) -> int:
        try:
            return os.stat(self.workspace.jobs).st_mtime_ns
        except FileNotFoundError:
            return 0

    def _running_changed(self) -> bool:
        running = (job for job in self._jobs if job.running)
        return any(runner.status(self.workspace.job(job.spec.id)) != job.status for job in running)

    def _look(self) -> None:
        self._looked, self._added = time.monotonic(), self._time()
        before, self._seen = self._seen, {}
        for name, changed in self._folders():
            known = before.get(name)
            if known and known[:2] == (changed, True) and not known[2].running:
                self._seen[name] = known
            elif job := runner.read_job(self.workspace, name, known[2].spec if known else None):
                self._seen[name] = (changed, abs(time.time_ns() - changed) > SETTLED_NS, job)
        if {n: (c, j) for n, (c, _, j) in self._seen.items()} != {n: (c, j) for n, (c, _, j) in before.items()}:
            states = sorted((name, changed, job.status) for name, (changed, _, job) in self._seen.items())
            self.version = hashlib.sha256(repr(states).encode()).hexdigest()
            self._jobs = runner.with_queue_positions([job for _, _, job in self._seen.values()])

    def _folders(self) -> list[tuple[str, int]]:
        """Name and time of each; those that go meanwhile are left out."""
        found = []
        for entry in os.scandir(self.workspace.jobs) if self._added else ():
            try:
                found.append((entry.name, entry.stat().st_mtime_ns))
            except OSError:
                continue
        return [(name, changed) for name, changed in found if not name.startswith(".")]
