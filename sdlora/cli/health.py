"""`health`: whether the server answers and could start a worker. What a container's health check runs."""

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
    problem = _silent(port) or _no_room(open_workspace(workspace)) or _no_process()
    if problem:
        print(problem, file=sys.stderr)
        raise typer.Exit(1)
    print("The server answers and a worker can start.")


def _silent(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        status = connection.getresponse().status
    except OSError as error:
        return f"The server does not answer on port {port}: {error}"
    finally:
        connection.close()
    return "" if status < 400 else f"The server answers {status}."


def _no_room(workspace: Workspace) -> str:
    """A worker needs a lock and room for its first state."""
    free = shutil.disk_usage(workspace.root).free
    if free < MIN_FREE_BYTES:
        return f"The disk is full: {free // 1_000_000} MB free, {MIN_FREE_BYTES // 1_000_000} MB needed."
    try:
        held = lock.acquire(workspace.root / ".health.lock")
    except OSError as error:
        return f"The workspace {workspace.root} cannot be written: {error.strerror}"
    if held is None:
        return "Another check holds the lock."
    os.close(held)
    return ""


def _no_process() -> str:
    """Python starts and finds the worker. What it loads later, torch, would take seconds of every minute."""
    command = [sys.executable, "-c", "import sdlora.processes.worker"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=30, env={**os.environ, **child_environment()})
    except (OSError, subprocess.SubprocessError) as error:
        return f"A worker cannot start: {error}"
    return ""
