"""Jobs as tests watch them: from their folders and from /proc, as any other process would."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sdlora.core import events
from sdlora.core.safetensors_io.writer import data_section
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.spec import Outcome


def wait(until: Callable[[], object], seconds: float = 600.0) -> None:
    """Until it is so. The limit is for what hangs; a machine that does six other things is slow, not wrong."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def told(paths: JobPaths) -> events.Follower:
    """What the job's events say until now."""
    follower = events.Follower(paths.events)
    follower.poll()
    return follower


def outcome_of(paths: JobPaths) -> Outcome:
    outcome = Outcome.read(paths)
    assert outcome is not None
    return outcome


def weights_of(paths: JobPaths) -> bytes:
    """The data of the chosen file without its header, in which two jobs' names and times differ."""
    outcome = outcome_of(paths)
    assert outcome.status == "done", outcome.reason_en
    return data_section((paths.folder / outcome.file).read_bytes())


def processes(folder: Path) -> dict[int, int]:
    """Rank -> pid of the workers on a job or on any job of a workspace; -1 is the launcher, or a worker that works alone."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            environment = dict(w.partition(b"=")[::2] for w in (process / "environ").read_bytes().split(b"\0"))
        except OSError:
            continue
        if b"sdlora.processes.worker" in words and any(word.startswith(str(folder).encode()) for word in words):
            found[int(environment.get(b"RANK", b"-1"))] = int(process.name)
    return found


def worker_of(paths: JobPaths) -> int:
    """The pid of the one process that runs this job."""
    (pid,) = processes(paths.folder).values()
    return pid
