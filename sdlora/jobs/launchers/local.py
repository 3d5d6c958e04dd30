"""Workers as processes of this machine: started detached, with the job's lock and log, and ended with a container."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sdlora.core.environment import child_environment
from sdlora.core.errors import SdloraError
from sdlora.jobs.launchers import accelerate
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.spec import JobSpec

WORKER = "sdlora.processes.worker"


def command(paths: JobPaths) -> list[str]:
    """Run the job in `train.processes` processes: one directly, several through `accelerate launch`."""
    worker, count = ["-m", WORKER, str(paths.folder)], _process_count(paths)
    return [sys.executable, *worker] if count == 1 else accelerate.command(worker, count)


def _process_count(paths: JobPaths) -> int:
    """1 where the job cannot be read: its worker reports the reason."""
    try:
        return JobSpec.read(paths).settings.train.processes
    except (OSError, ValueError, KeyError, TypeError, SdloraError):
        return 1


def spawn(
    paths: JobPaths, lock_fd: int, command: list[str], preexec: Callable[[], None] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that inherits the descriptor of the job's lock and appends to its log, in a session of its own."""
    with open(paths.log, "ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(lock_fd,),
            env={**os.environ, "SDLORA_LOCK_FD": str(lock_fd), **child_environment()},
            start_new_session=True,
            preexec_fn=preexec,
        )


def terminate_workers(timeout: float = 6.0) -> None:
    """Send SIGTERM to the workers that this process started and wait: they save and leave. For containers, which end as a whole."""
    workers = [pid for pid in _children() if WORKER.encode() in _command_line(pid)]
    for pid in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + timeout
    while any(map(_command_line, workers)) and time.monotonic() < end:
        time.sleep(0.05)


def _children() -> list[int]:
    children = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                children.append(int(folder.name))
    return children


def _command_line(pid: int) -> bytes:
    """Empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
