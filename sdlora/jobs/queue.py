"""Keeps a workspace's jobs going: starts the next one, brings back what was killed, goes on when the disk has room."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import InitVar, dataclass, field

from sdlora.core.errors import MIN_FREE_BYTES, BadInput
from sdlora.jobs import runner
from sdlora.jobs.job_list import Overview
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.spec import Outcome

RETRY_SECONDS = 8.0  # after a worker was killed: time for a person to see it, and for a machine to recover


@dataclass
class Queue:
    """One for each process that watches a workspace. What it remembers is only since when it has seen a job interrupted."""

    workspace: Workspace
    shared: InitVar[Overview | None] = None  # with whoever else in this process watches
    seen: dict[str, float] = field(default_factory=dict)  # job -> monotonic seconds

    def __post_init__(self, shared: Overview | None) -> None:
        self.overview = shared or Overview(self.workspace)

    def tick(self) -> None:
        """Call about once a second."""
        found = self.overview.jobs_now()
        interrupted = {j.spec.id for j in found if j.status == "interrupted"}
        self.seen = {id: self.seen.get(id, time.monotonic()) for id in interrupted}
        for job in found:
            paths = self.workspace.job(job.spec.id)
            again = job.status == "paused" or (job.status == "interrupted" and self.seconds_to_retry(paths) == 0)
            if again and self._has_room(paths):
                with contextlib.suppress(BadInput):  # somebody else, who watches too, was faster
                    runner.resume(paths)
        found = self.overview.jobs_now()
        may_start = any(job.place for job in found) and not any(job.running and not job.node for job in found)
        if may_start and not any(job.gpu_lost for job in found):
            runner.start_next(self.workspace, self.overview.jobs_now)

    def seconds_to_retry(self, paths: JobPaths) -> float | None:
        """Until an interrupted job goes on by itself; None = it waits for a person."""
        if runner.attempts_without_progress(paths) >= runner.ATTEMPTS:
            return None
        return max(0.0, self.seen.get(paths.id, time.monotonic()) + RETRY_SECONDS - time.monotonic())

    def _has_room(self, paths: JobPaths) -> bool:
        """A worker that found no room even for its outcome counts as interrupted."""
        outcome = Outcome.read(paths)
        needed = outcome.needed_bytes if outcome else MIN_FREE_BYTES
        return 0 < needed < shutil.disk_usage(paths.folder).free
