"""Serve the app by uvicorn until SIGINT or SIGTERM, and say once when it answers."""

from __future__ import annotations

import asyncio
import logging
import socket
import webbrowser

import uvicorn
from fastapi import FastAPI

CONNECTIONS = 800  # at once, further ones get 503: an open page holds up to six, a process often has 1,024 descriptors


async def serve(app: FastAPI, listener: socket.socket, host: str, open_page: bool) -> None:
    """Run until SIGINT or SIGTERM; an open page keeps the server for two seconds at most."""
    # X-Forwarded-For is not believed: it would give each guess of a password another address.
    config = uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=2,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
    )
    server = uvicorn.Server(config)
    logging.getLogger("uvicorn.error").addFilter(is_fault)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not running.done():
        await asyncio.sleep(0.02)
    if server.started:
        address = f"http://{host}:{listener.getsockname()[1]}"
        print(f"sdlora is ready on {address}", flush=True)
        if open_page:
            webbrowser.open(address)
    await running


def is_fault(record: logging.LogRecord) -> bool:
    """Open pages hold a request each; that these are cut at the end is no fault, so uvicorn's tracebacks of it stay out."""
    cause = record.exc_info[1] if record.exc_info else None
    return not isinstance(cause, asyncio.CancelledError) and "timeout graceful shutdown" not in record.getMessage()
