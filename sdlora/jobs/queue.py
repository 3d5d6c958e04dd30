"""The queue: starts the next job, restarts killed ones, resumes paused ones when the disk has room again."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field

from sdlora.core.errors import MIN_FREE_BYTES, BadInput
from sdlora.jobs import runner
from sdlora.jobs.job_list import JobList
from sdlora.jobs.launchers.launcher import Launcher
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.spec import Outcome

RETRY_SECONDS = 8.0  # after a worker was killed: time for a person to see it, and for the machine to recover


@dataclass
class Queue:
    """Call `tick` about once a second; several processes may do so for one workspace. Only retry times live in memory."""

    workspace: Workspace
    launcher: Launcher = field(default_factory=Launcher)
    shared: InitVar[JobList | None] = None  # a list that others in this process read too
    before_start: Callable[[int], None] = lambda processes: None  # makes room for a job of so many processes
    interrupted_since: dict[str, float] = field(default_factory=dict)  # job id -> monotonic seconds

    def __post_init__(self, shared: JobList | None) -> None:
        self.job_list = shared or JobList(self.workspace)

    def tick(self) -> None:
        """Resume what may go on, then start the next job if none runs here."""
        jobs = self.job_list.jobs_now()
        interrupted = {j.spec.id for j in jobs if j.status == "interrupted"}
        self.interrupted_since = {id: self.interrupted_since.get(id, time.monotonic()) for id in interrupted}
        for job in jobs:
            paths = self.workspace.job(job.spec.id)
            due = job.status == "paused" or (job.status == "interrupted" and self.seconds_to_retry(paths) == 0)
            if due and self._has_room(paths):
                with contextlib.suppress(BadInput):  # another process that ticks was faster
                    runner.resume(paths)
        jobs = self.job_list.jobs_now()
        may_start = any(job.queue_position for job in jobs) and not any(job.running and not job.node for job in jobs)
        if may_start and not any(job.gpu_lost for job in jobs):
            self.before_start(next(job.spec.settings.train.processes for job in jobs if job.queue_position == 1))
            runner.start_next(self.workspace, self.launcher, self.job_list.jobs_now)

    def seconds_to_retry(self, paths: JobPaths) -> float | None:
        """Until an interrupted job is resumed automatically; None = not before a person does."""
        if runner.attempts_without_progress(paths) >= runner.MAX_ATTEMPTS:
            return None
        return max(0.0, self.interrupted_since.get(paths.id, time.monotonic()) + RETRY_SECONDS - time.monotonic())

    def _has_room(self, paths: JobPaths) -> bool:
        """A worker without room even for its outcome counts as interrupted: then the minimum is required."""
        outcome = Outcome.read(paths)
        needed = outcome.needed_bytes if outcome else MIN_FREE_BYTES
        return 0 < needed < shutil.disk_usage(paths.folder).free
