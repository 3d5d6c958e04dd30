"""`app`: serve the page. The only command that loads gradio, and it does so when it is called."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from sdlora.core.errors import BadInput, SdloraError
from sdlora.core.text import Text
from sdlora.jobs.launchers.launcher import Launcher
from sdlora.jobs.launchers.local import terminate_workers
from sdlora.jobs.paths import Workspace, default_workspace
from sdlora.web.security.user_file import UserFile


def app(
    host: Annotated[str, typer.Option(help="Address to listen on; the default is this computer alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 7860,
    workspace: Annotated[
        Path | None,
        typer.Option(help="Where data sets, jobs and pictures lie. [default: $SDLORA_WORKSPACE or ./workspace]"),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            envvar="SDLORA_PASSWORD_FILE",
            help="File with the password that the page asks for (made and printed where other computers can reach the page).",
        ),
    ] = None,
    users_file: Annotated[
        Path | None,
        typer.Option(
            envvar="SDLORA_USERS_FILE",
            help="Several people, each with a name and a password: a file made by `sdlora user add NAME`.",
        ),
    ] = None,
    end_workers: Annotated[
        bool,
        typer.Option(
            "--end-workers",
            help="A running job saves and leaves with the server, and goes on at its next start (for containers).",
        ),
    ] = False,
    runner_name: Annotated[
        Literal["local", "ray"],
        typer.Option(
            "--runner",
            envvar="SDLORA_RUNNER",
            help="Where jobs run: one at a time here, or on the nodes of a Ray cluster.",
        ),
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(
            envvar="RAY_ADDRESS", help="HOST:PORT of the cluster. [default: the one that this computer is part of]"
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve the web page; one line says when it answers."""
    from sdlora.web.serve import serve
    from sdlora.web.server import make_app

    launcher = Launcher(runner_name, ray_address or "")
    try:
        launcher.check()
        listener = socket.create_server((host, port), backlog=128)
        users = UserFile.read(users_file) if users_file else None
        password = "" if users else password_for(host, password_file)
        names = os.environ.get("SDLORA_HOSTS", "").split(",")
        site = Workspace(workspace.absolute()) if workspace else Workspace(default_workspace())
        server = make_app(site, host, names, password, users, launcher)
    except (OSError, SdloraError) as error:
        print(f"sdlora cannot start: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    end_workers = end_workers or os.getpid() == 1
    if end_workers:  # uvicorn raises the signal that ended it once more: that must not end us before the workers
        signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        asyncio.run(serve(server, listener, host, open_page))
    finally:
        if end_workers:
            terminate_workers()


def password_for(host: str, file: Path | None) -> str:
    """The password to ask for; "" asks for none, which only this computer's own addresses allow.

    Raises:
        BadInput: the file is empty.
    """
    from sdlora.web.security.guard import is_loopback

    if file:
        password = file.read_text(encoding="utf-8").strip()
        if not password:
            raise BadInput(Text(f"The password file {file} is empty.", f"パスワードファイル {file} が空です。"))
        return password
    if is_loopback(host):
        return ""
    password = secrets.token_urlsafe(12)
    print(f"The page asks for this password: {password}", flush=True)
    return password
