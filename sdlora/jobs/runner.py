"""Start, stop, resume and list jobs. Stateless: every answer is derived from the job's folder."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from sdlora.core.errors import BadInput, DeviceLost
from sdlora.core.files import read_json
from sdlora.core.text import Text
from sdlora.jobs import lock, store
from sdlora.jobs.launchers import local
from sdlora.jobs.launchers.launcher import Launcher
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.spec import JobSpec, Outcome

Status = Literal["queued", "running", "stopping", "interrupted", "paused", "done", "stopped", "failed"]
LOCK_TIMEOUT = 5.0  # seconds to wait for another process that changes the queue
MAX_ATTEMPTS = 3  # of a killed worker without a saved step in between, before a person is asked


def status(paths: JobPaths) -> Status:
    """Lock held = running; an outcome = what it says; a log = interrupted; else queued."""
    return _status_and_outcome(paths)[0]


def _status_and_outcome(paths: JobPaths) -> tuple[Status, Outcome | None]:
    if lock.is_held(paths.lock):
        return ("stopping" if paths.stop.exists() else "running"), None
    outcome = Outcome.read(paths)
    if outcome:
        return outcome.status, outcome
    return ("interrupted" if paths.log.exists() else "queued"), None


@dataclass(frozen=True)
class Job:
    """A job as lists show it. `queue_position` counts from 1 for queued jobs, 0 for all others."""

    spec: JobSpec
    status: Status
    queue_position: int
    outcome: Outcome | None = None
    saved: int = 0  # of a queued job: the step it will begin at
    node: str = ""  # of a cluster, where it runs or ran last; "" = this machine

    @property
    def running(self) -> bool:
        return self.status in ("running", "stopping")

    @property
    def gpu_lost(self) -> bool:
        """The GPU is gone, for other jobs too: the queue waits until a person resumes or deletes this one."""
        return self.status == "paused" and self.outcome is not None and self.outcome.exit_code == DeviceLost.exit_code


def read_job(workspace: Workspace, name: str, spec: JobSpec | None = None) -> Job | None:
    """The job in the folder `name`, without its queue position; None where it cannot be read. A known `spec` is not read again."""
    paths = JobPaths(workspace.jobs / name)
    try:
        spec = spec or JobSpec.read(paths)
        state, outcome = _status_and_outcome(paths)
        if state == "queued":
            return Job(spec, state, 0, outcome, paths.saved_step())
        return Job(spec, state, 0, outcome, node=node(paths))
    except (OSError, ValueError, KeyError, TypeError, BadInput):
        return None


def with_queue_positions(jobs: Iterable[Job]) -> list[Job]:
    """Newest first; queued jobs are numbered from 1, the oldest first."""
    positions = itertools.count(1)
    oldest_first = sorted(jobs, key=lambda job: (job.spec.created, job.spec.id))
    return [replace(j, queue_position=next(positions)) if j.status == "queued" else j for j in oldest_first][::-1]


def jobs(workspace: Workspace) -> list[Job]:
    """All jobs, newest first. A process that polls keeps a `JobList` instead."""
    return with_queue_positions(
        job for spec in store.list_specs(workspace) if (job := read_job(workspace, spec.id, spec))
    )


def start_next(
    workspace: Workspace, launcher: Launcher | None = None, jobs_now: Callable[[], list[Job]] | None = None
) -> JobSpec | None:
    """Start the oldest queued job if no job runs on this machine. Called often and by any process: one of them gets the queue's lock."""
    workspace.make()
    with lock.hold(workspace.lock, timeout=0) as acquired:
        now = (jobs_now() if jobs_now else jobs(workspace)) if acquired else []
        first = next((job.spec for job in now if job.queue_position == 1), None)
        if first is None or any(job.running and not job.node for job in now):
            return None
        return first if start(workspace.job(first.id), launcher) else None


def start(paths: JobPaths, launcher: Launcher | None = None) -> bool:
    """Start the worker process of a job; False if one runs already. Without a `launcher`: a process of this machine.

    The worker (of several: their launcher) inherits the lock's descriptor, so that the job counts as running from this line on,
    and lives in a session of its own: closing the web process or its terminal does not end it.
    """
    lock_fd = lock.acquire(paths.lock, timeout=0.5)
    if lock_fd is None:
        return False
    try:
        paths.node.unlink(missing_ok=True)
        process = local.spawn(paths, lock_fd, (launcher or Launcher()).command(paths))
        threading.Thread(target=process.wait, daemon=True).start()  # reaps it, so that no zombie stays
        return True
    finally:
        os.close(lock_fd)


def node(paths: JobPaths) -> str:
    """Name and address of the cluster's node that runs the job, or ran it last; "" = this machine."""
    try:
        node = read_json(paths.node)
    except FileNotFoundError:
        return ""
    return f"{node['name']} ({node['address']})"


def stop(paths: JobPaths) -> None:
    """Ask a running worker to finish its step, save and exit; take a queued job out of the queue.

    Raises:
        BadInput: the job has ended already.
    """
    with lock.hold(paths.workspace.lock, LOCK_TIMEOUT):
        state = status(paths)
        if state == "queued":
            Outcome("stopped", step=paths.saved_step(), seconds=0.0).write(paths)
        elif state in ("running", "stopping"):
            paths.stop.touch()
        else:
            raise BadInput(Text(f"The job is not running (it is {state}).", "ジョブは実行中ではありません。"))


def resume(paths: JobPaths) -> None:
    """Put an unfinished job back into the queue; it continues from its last saved state.

    Raises:
        BadInput: it is running, queued or done.
    """
    with lock.hold(paths.workspace.lock, LOCK_TIMEOUT):
        state = status(paths)
        if state not in ("interrupted", "paused", "stopped", "failed"):
            raise BadInput(
                Text(f"The job cannot be resumed (it is {state}).", f"ジョブは再開できません(状態: {state})。")
            )
        paths.stop.unlink(missing_ok=True)
        if paths.log.exists():  # the renamed logs record how far each attempt came, see `attempts_without_progress`
            paths.log.rename(paths.folder / f"log-{attempts(paths):02d}-to-{paths.saved_step()}.txt")
        paths.outcome.unlink(missing_ok=True)


def attempts(paths: JobPaths) -> int:
    """Number of workers started for this job so far."""
    return len(list(paths.folder.glob("log*.txt")))


def attempts_without_progress(paths: JobPaths) -> int:
    """Number of consecutive attempts, the current one included, that ended at the step that is saved now."""
    ends = [int(p.stem.split("-to-")[1]) for p in sorted(paths.folder.glob("log-*-to-*.txt"))]
    count = 1
    while ends and ends.pop() == paths.saved_step():
        count += 1
    return count
