"""The web app: `python app.py [--host H] [--port P] [--workspace DIR] [--password-file F] [--open]`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
import webbrowser
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from sdlora.core.errors import BadInput, SdloraError
from sdlora.core.text import Text
from sdlora.jobs import runner
from sdlora.jobs.paths import Workspace, default_workspace
from sdlora.jobs.users import Users
from sdlora.web.security.guard import is_loopback
from sdlora.web.server import make_app

CONNECTIONS = 800  # at once, further ones get 503: an open page holds up to six, a process often has 1,024 descriptors


def main() -> None:
    options = parse()
    os.environ["SDLORA_RUNNER"] = options.runner  # read by whoever starts a job
    if options.ray_address:
        os.environ["RAY_ADDRESS"] = options.ray_address
    try:
        runner.chosen()
        listener = socket.create_server((options.host, options.port), backlog=128)
        known = Users.read(options.users_file) if options.users_file else None
        password = "" if known else read_password(options.password_file, options.host)
        names = os.environ.get("SDLORA_HOSTS", "").split(",")
        app = make_app(Workspace(options.workspace.absolute()), options.host, names, password, known)
    except (OSError, SdloraError) as error:
        sys.exit(refuse(f"sdlora cannot start: {error}"))
    ends_workers = options.end_workers or os.getpid() == 1
    if ends_workers:  # uvicorn raises the signal that ended it once more: that must not end us before the workers
        signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        asyncio.run(serve(app, listener, options.host, options.open))
    finally:
        if ends_workers:
            runner.end_children()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="app.py", description="Train Stable Diffusion LoRAs in the browser.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this computer only)")
    parser.add_argument("--port", type=int, default=7860, help="0 takes a free one (default: 7860)")
    parser.add_argument(
        "--workspace", type=Path, default=default_workspace(), help="where data sets, jobs and pictures lie"
    )
    parser.add_argument(
        "--password-file",
        type=Path,
        default=os.environ.get("SDLORA_PASSWORD_FILE") or None,
        help="file with the password that the page asks for (made and printed where other computers can reach the page)",
    )
    parser.add_argument(
        "--users-file",
        type=Path,
        default=os.environ.get("SDLORA_USERS_FILE") or None,
        help="several people, each with a name and a password: a file made by `python -m sdlora user add NAME`",
    )
    parser.add_argument(
        "--end-workers",
        action="store_true",
        help="a running job saves and leaves with the server, and goes on at its next start (for containers)",
    )
    parser.add_argument(
        "--runner",
        choices=tuple(runner.RUNNERS),
        default=os.environ.get("SDLORA_RUNNER") or "local",
        help="where jobs run: one at a time here, or on the nodes of a Ray cluster (default: local)",
    )
    parser.add_argument("--ray-address", help="HOST:PORT of the cluster (default: $RAY_ADDRESS, else the one here)")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    return parser.parse_args()


def read_password(file: Path | None, host: str) -> str:
    """The password to ask for; "" asks for none, which only this computer's own addresses allow."""
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


def is_worth_telling(record: logging.LogRecord) -> bool:
    """Open pages hold a request each; that these are cut at the end is no fault, so uvicorn's tracebacks of it stay out."""
    cause = record.exc_info[1] if record.exc_info else None
    return not isinstance(cause, asyncio.CancelledError) and "timeout graceful shutdown" not in record.getMessage()


async def serve(app: FastAPI, listener: socket.socket, host: str, show: bool) -> None:
    """Run until SIGINT or SIGTERM; an open page keeps the server for two seconds at most."""
    # No word of X-Forwarded-For is believed: it would give each guess of a password another address.
    config = uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=2,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
    )
    server = uvicorn.Server(config)
    logging.getLogger("uvicorn.error").addFilter(is_worth_telling)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not running.done():
        await asyncio.sleep(0.02)
    if server.started:
        address = f"http://{host}:{listener.getsockname()[1]}"
        print(f"sdlora is ready on {address}", flush=True)
        if show:
            webbrowser.open(address)
    await running


def refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
