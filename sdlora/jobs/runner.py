"""Start, stop, resume and watch jobs. Nothing is remembered: every answer is read off the job's folder."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sdlora.core.environment import child_environment
from sdlora.core.errors import BadInput, DeviceLost
from sdlora.core.files import read_json
from sdlora.core.text import Text
from sdlora.jobs import lock, store
from sdlora.jobs.launchers import commands
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.spec import JobSpec, Outcome

Status = Literal["queued", "running", "stopping", "interrupted", "paused", "done", "stopped", "failed"]
RUNNERS = {"local": commands.command, "ray": commands.on_ray}  # what $SDLORA_RUNNER names
PATIENCE = 5.0  # seconds that a change to the queue waits for others to end theirs
ATTEMPTS = 3  # of a killed worker without a saved step in between, before a person is asked


def status(paths: JobPaths) -> Status:
    """Lock held = running; an outcome = what it says; a log = interrupted; else queued."""
    return _status_and_outcome(paths)[0]


def _status_and_outcome(paths: JobPaths) -> tuple[Status, Outcome | None]:
    if lock.held(paths.lock):
        return ("stopping" if paths.stop.exists() else "running"), None
    outcome = Outcome.read(paths)
    if outcome:
        return outcome.status, outcome
    return ("interrupted" if paths.log.exists() else "queued"), None


@dataclass(frozen=True)
class Job:
    """A job as lists show it. `place` counts from 1 for queued jobs, 0 for all others."""

    spec: JobSpec
    status: Status
    place: int
    outcome: Outcome | None = None
    saved: int = 0  # where a queued one will begin
    node: str = ""  # of a cluster, where it runs or ran last; empty for this machine

    @property
    def running(self) -> bool:
        return self.status in ("running", "stopping")

    @property
    def gpu_lost(self) -> bool:
        """Every other job would be lost on it too: the queue waits until somebody resumes or deletes this one."""
        return self.status == "paused" and self.outcome is not None and self.outcome.exit_code == DeviceLost.exit_code


def look_at(workspace: Workspace, name: str, spec: JobSpec | None = None) -> Job | None:
    """The job in a folder of this name, without its place; None where none can be read. `spec` saves reading it again."""
    paths = JobPaths(workspace.jobs / name)
    try:
        spec = spec or JobSpec.read(paths)
        state, outcome = _status_and_outcome(paths)
        if state == "queued":
            return Job(spec, state, 0, outcome, paths.saved_step())
        return Job(spec, state, 0, outcome, node=node(paths))
    except (OSError, ValueError, KeyError, TypeError, BadInput):
        return None


def placed(found: Iterable[Job]) -> list[Job]:
    """Newest first, those that wait with their places."""
    waiting = itertools.count(1)
    oldest_first = sorted(found, key=lambda job: (job.spec.created, job.spec.id))
    return [replace(j, place=next(waiting)) if j.status == "queued" else j for j in oldest_first][::-1]


def jobs(workspace: Workspace) -> list[Job]:
    """All jobs, newest first. Who asks again and again asks an `Overview`."""
    return placed(job for spec in store.every(workspace) if (job := look_at(workspace, spec.id, spec)))


def start_next(workspace: Workspace, jobs_now: Callable[[], list[Job]] | None = None) -> JobSpec | None:
    """Start the oldest queued job if none runs, or each that does has a node of its own. Called often, by any process: only one of
    them gets the queue's lock."""
    workspace.make()
    with lock.holding(workspace.lock, patience=0) as mine:
        now = (jobs_now() if jobs_now else jobs(workspace)) if mine else []
        first = next((job.spec for job in now if job.place == 1), None)
        if first is None or any(job.running and not job.node for job in now):
            return None
        return first if start(workspace.job(first.id)) else None


def start(paths: JobPaths) -> bool:
    """Start the worker process of a job; False if one runs already.

    The worker (of several: their launcher) inherits the lock's descriptor, so that the job counts as running from this line on,
    and lives in a session of its own: closing the web process or its terminal does not reach it.
    """
    held = lock.acquire(paths.lock, patience=0.5)
    if held is None:
        return False
    try:
        paths.node.unlink(missing_ok=True)
        process = spawn(paths, held, chosen()(paths))
        threading.Thread(target=process.wait, daemon=True).start()  # so that no ended worker stays as a zombie
        return True
    finally:
        os.close(held)


def spawn(
    paths: JobPaths, held: int, command: list[str], first: Callable[[], None] | None = None
) -> subprocess.Popen[bytes]:
    """A process with the descriptor of the job's lock that writes to its log; `first` is called in it before anything else."""
    with open(paths.log, "ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(held,),
            env={**os.environ, "SDLORA_LOCK_FD": str(held), **child_environment()},
            start_new_session=True,
            preexec_fn=first,
        )


def chosen() -> Callable[[JobPaths], list[str]]:
    """What gives the command that runs a job.

    Raises:
        BadInput: no such runner, or what it needs is not installed.
    """
    name = os.environ.get("SDLORA_RUNNER") or "local"
    if name not in RUNNERS:
        raise BadInput(Text(f"There is no runner {name!r}.", f"ランナー {name!r} はありません。"))
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise BadInput(
            Text(
                "Ray is not installed: pip install 'sdlora[ray]'.",
                "Ray がインストールされていません: pip install 'sdlora[ray]'",
            )
        )
    return RUNNERS[name]


def node(paths: JobPaths) -> str:
    """Name and address of the cluster's node that runs the job, or ran it last; empty for this machine."""
    try:
        said = read_json(paths.node)
    except FileNotFoundError:
        return ""
    return f"{said['name']} ({said['address']})"


def end_children(seconds: float = 6.0) -> None:
    """Let workers that this process started save and leave, for where everything ends with it: in a container."""
    workers = [pid for pid in _children() if b"sdlora.processes.worker" in _command(pid)]
    for pid in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + seconds
    while any(map(_command, workers)) and time.monotonic() < end:
        time.sleep(0.05)


def _children() -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(folder.name))
    return found


def _command(pid: int) -> bytes:
    """Empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def stop(paths: JobPaths) -> None:
    """Ask a running worker to finish its step, save and leave; a queued job is taken out of the queue.

    Raises:
        BadInput: the job has ended already.
    """
    with lock.holding(paths.workspace.lock, PATIENCE):
        state = status(paths)
        if state == "queued":
            Outcome("stopped", step=paths.saved_step(), seconds=0.0).write(paths)
        elif state in ("running", "stopping"):
            paths.stop.touch()
        else:
            raise BadInput(Text(f"The job is not running (it is {state}).", "ジョブは実行中ではありません。"))


def resume(paths: JobPaths) -> None:
    """Put a job that has ended before its time back into the queue. Its last state decides where it goes on.

    Raises:
        BadInput: it is running, queued or done.
    """
    with lock.holding(paths.workspace.lock, PATIENCE):
        state = status(paths)
        if state not in ("interrupted", "paused", "stopped", "failed"):
            raise BadInput(
                Text(f"The job cannot be resumed (it is {state}).", f"ジョブは再開できません(状態: {state})。")
            )
        paths.stop.unlink(missing_ok=True)
        if paths.log.exists():  # what each attempt came to is told by the logs' names
            paths.log.rename(paths.folder / f"log-{attempts(paths):02d}-to-{paths.saved_step()}.txt")
        paths.outcome.unlink(missing_ok=True)


def attempts(paths: JobPaths) -> int:
    """How often a worker was started for this job."""
    return len(list(paths.folder.glob("log*.txt")))


def attempts_without_progress(paths: JobPaths) -> int:
    """How many attempts in a row, the present one included, have ended at the step that is saved now."""
    ends = [int(p.stem.split("-to-")[1]) for p in sorted(paths.folder.glob("log-*-to-*.txt"))]
    count = 1
    while ends and ends.pop() == paths.saved_step():
        count += 1
    return count
