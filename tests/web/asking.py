"""Requests as somebody writes them who is not our page: any header, any body, no politeness."""

from __future__ import annotations

import contextlib
import http.client
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.browser import App


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


def ask(
    app: App, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | Iterable[bytes] | None = None
) -> Answer:
    """One request on a connection of its own. A body of chunks does not say its length."""
    connection = http.client.HTTPConnection(urlsplit(app.url).netloc, timeout=120)
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has answered already and reads no more
            connection.request(method, path, body, headers or {}, encode_chunked=not isinstance(body, bytes | None))
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def timer_event(config: dict[str, Any], element: str) -> int:
    """Which of a page's events the timer starts to fill this element: `sent` is training's, `library-seen` the library's."""
    sent = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == element)
    return next(
        k
        for k, event in enumerate(config["dependencies"])
        if sent in event["outputs"] and any(name == "tick" for _, name in event["targets"])
    )


def peak_memory(app: App) -> int:
    """Bytes that the web process has held at most since `forget_peak`."""
    status = Path(f"/proc/{app.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def forget_peak(app: App) -> None:
    Path(f"/proc/{app.pid}/clear_refs").write_text("5")
