"""`health`: whether the server answers and a worker could start; for the health check of a container."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
from typing import Annotated

import typer

from sdlora.cli.options import WorkspaceOption, open_workspace
from sdlora.core.environment import child_environment
from sdlora.core.errors import MIN_FREE_BYTES
from sdlora.jobs import lock
from sdlora.jobs.paths import Workspace


def health(
    port: Annotated[int, typer.Option(help="Where the server listens on this machine.")] = 7860,
    workspace: WorkspaceOption = None,
) -> None:
    """Exit 0 if the server answers and a worker could start, else 1 and the reason."""
    problem = _server_problem(port) or _disk_problem(open_workspace(workspace)) or _worker_problem()
    if problem:
        print(problem, file=sys.stderr)
        raise typer.Exit(1)
    print("The server answers and a worker can start.")


def _server_problem(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        status = connection.getresponse().status
    except OSError as error:
        return f"The server does not answer on port {port}: {error}"
    finally:
        connection.close()
    return "" if status < 400 else f"The server answers {status}."


def _disk_problem(workspace: Workspace) -> str:
    """A worker needs a lock and room for its first state."""
    free = shutil.disk_usage(workspace.root).free
    if free < MIN_FREE_BYTES:
        return f"The disk is full: {free // 1_000_000} MB free, {MIN_FREE_BYTES // 1_000_000} MB needed."
    try:
        lock_fd = lock.acquire(workspace.root / ".health.lock")
    except OSError as error:
        return f"The workspace {workspace.root} cannot be written: {error.strerror}"
    if lock_fd is None:
        return "Another check holds the lock."
    os.close(lock_fd)
    return ""


def _worker_problem() -> str:
    """Import the worker in a new process, without torch: that would take seconds of every minute."""
    command = [sys.executable, "-c", "import sdlora.processes.worker"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=30, env={**os.environ, **child_environment()})
    except (OSError, subprocess.SubprocessError) as error:
        return f"A worker cannot start: {error}"
    return ""
