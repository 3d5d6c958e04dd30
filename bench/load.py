"""Fifty open pages and ten uploads of 100 MB at once beside a running job: `python -m bench.load`.

A really started app on this machine's own address. The asking itself takes part of the same processor, which the figures include.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import re
import secrets
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sdlora.core.events import Follower
from tests.browser import App, started_app
from tests.conftest import draw_pictures
from tests.web.asking import timer_event

MEGA = 1_000_000


def call(url: str, method: str, path: str, headers: dict[str, str] | None = None, body: Any = None) -> bytes:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    try:
        connection.request(method, path, body, headers or {}, encode_chunked=not isinstance(body, bytes | None))
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status < 400, (answer.status, said[:200])
        return said
    finally:
        connection.close()


class Session(threading.Thread):
    """One open page: the timer's two events as often as the server says, as the browser sends them; `waits` are the seconds to each
    answer."""

    def __init__(self, app: App, job: str, ended: threading.Event):
        super().__init__(name=secrets.token_hex(5), daemon=True)
        self.app, self.job, self.ended = app, job, ended
        self.waits: list[float] = []

    def run(self) -> None:
        config = json.loads(call(self.app.url, "GET", "/en/config"))
        training, library = (timer_event(config, element) for element in ("sent", "library-seen"))
        sent, seen, pause = "{}", "", 1.0
        while not self.ended.wait(max(0.0, pause - sum(self.waits[-2:]))):
            sent = self.ask(training, [self.job, [], "", "", sent]) or sent
            seen = self.ask(library, ["", seen]) or seen
            pause = json.loads(sent).get("seconds", pause)

    def ask(self, number: int, values: list[Any]) -> str | None:
        """The stamp that the answer ends with; None where it stays."""
        payload = {"fn_index": number, "data": values, "session_hash": self.name}
        began, stamp = time.monotonic(), {"content-type": "application/json"}
        said = json.loads(call(self.app.url, "POST", "/en/gradio_api/run/predict", stamp, json.dumps(payload).encode()))
        self.waits.append(time.monotonic() - began)
        return said["data"][-1] if isinstance(said["data"][-1], str) else None


def upload(url: str, megabytes: int, ready: Barrier) -> None:
    os.nice(15)  # who uploads does so from another machine: its own work shall not take the server's turns

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="big.zip"\r\n\r\n'
        for _ in range(megabytes):
            yield b"x" * MEGA
        yield b"\r\n--x--\r\n"

    ready.wait()
    call(url, "POST", "/en/gradio_api/upload", {"content-type": "multipart/form-data; boundary=x"}, body())


def memory(app: App, what: str) -> int:
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{app.process.pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def start_job(app: App, folder: Path) -> tuple[str, Follower]:
    """On the bundled base, of more steps than this will take."""
    headers = {"authorization": f"Bearer {(app.workspace / 'api-token').read_text().strip()}"}
    archive = Path(shutil.make_archive(str(folder / "set"), "zip", draw_pictures(folder / "pictures", 12, 128)))
    dataset = json.loads(call(app.url, "POST", "/api/datasets", headers, archive.read_bytes()))["id"]
    settings = {"train.steps": 100_000, "train.sample_every": 100_000, "train.save_every": 100_000}
    payload = {"dataset": dataset, "settings": settings}
    headers["content-type"] = "application/json"
    job = json.loads(call(app.url, "POST", "/api/jobs", headers, json.dumps(payload).encode()))["id"]
    return job, Follower(app.workspace / "jobs" / job / "events.jsonl")


def seconds_a_step(follower: Follower, seconds: float) -> float:
    """Median over the steps of the next so many seconds."""
    follower.poll()
    first = follower.step
    time.sleep(seconds)
    follower.poll()
    return statistics.median(s.seconds for s in follower.steps.values() if s.step > first)


def measure(app: App, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    job, follower = start_job(app, folder)
    while not follower.steps or follower.step < 5:
        time.sleep(0.5)
        follower.poll()
    before = [seconds_a_step(follower, options.seconds)]
    ended = threading.Event()
    sessions = [Session(app, job, ended) for _ in range(options.sessions)]
    for session in sessions:
        session.start()
        time.sleep(0.02)
    while not all(session.waits for session in sessions):  # they are open before the uploads begin
        time.sleep(0.1)
    opened = max(session.waits[0] for session in sessions)
    # Processes of their own: beside 50 threads of one interpreter they would make each other wait.
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(options.uploads + 1)
    uploads = [
        context.Process(target=upload, args=(app.url, options.megabytes, ready), daemon=True)
        for _ in range(options.uploads)
    ]
    for process in uploads:
        process.start()
    ready.wait()  # beginning takes ten interpreters more of the processor than sending does
    for session in sessions:
        session.waits.clear()
    began = time.monotonic()
    pages: list[float] = []
    loaded: list[float] = []
    while time.monotonic() - began < options.seconds or any(process.is_alive() for process in uploads):
        asked = time.monotonic()
        call(app.url, "GET", "/en/")
        pages.append(time.monotonic() - asked)
        loaded.append(seconds_a_step(follower, 5))
    taken = time.monotonic() - began
    ended.set()
    for session in sessions:
        session.join(30)
    before.append(seconds_a_step(follower, options.seconds))
    waits = sorted(wait for session in sessions for wait in session.waits)
    quiet, busy = statistics.mean(before), statistics.median(loaded)
    return {
        "first event of 50 at once, slowest s": round(opened, 3),
        "events answered": len(waits),
        "event, median s": round(statistics.median(waits), 3),
        "event, 99 % under s": round(waits[int(len(waits) * 0.99)], 3),
        "event, slowest s": round(waits[-1], 3),
        "page, slowest s": round(max(pages), 3),
        "uploads and pages took s": round(taken, 1),
        "web process, most MB": round(memory(app, "VmHWM") / MEGA),
        "step alone s": [round(x, 3) for x in before],
        "step under load s": round(busy, 3),
        "training slower by %": round(100 * (busy / quiet - 1), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--uploads", type=int, default=10)
    parser.add_argument("--megabytes", type=int, default=100, help="of one upload")
    parser.add_argument("--seconds", type=float, default=30, help="of quiet before and after, and of load at least")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        started_app(Path(folder) / "workspace", "--end-workers", GOMP_SPINCOUNT="3000") as app,
    ):  # threads that spin on an idle machine and sleep on a busy one would be two trainings
        found = measure(app, Path(folder), options)
    found["load of the machine, 1 minute"] = round(os.getloadavg()[0], 1)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
