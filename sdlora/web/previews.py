"""The client of the previewer process: one warm process for all browsers, each picture drawn once."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdlora.core.environment import child_environment, preview_gpu, previews_share_gpu
from sdlora.core.errors import SdloraError
from sdlora.core.text import Text
from sdlora.processes.protocol import PreviewJob, PreviewRequest
from sdlora.web import strings

IDLE_SECONDS = 600.0
RELEASE_SECONDS = 3.0  # that a previewer may take to end before it is killed


@dataclass(frozen=True)
class Drawing:
    """Denoising step `step` of `steps` is done; of 0 steps: the model is not ready yet."""

    step: int
    steps: int


@dataclass(frozen=True)
class Drawn:
    file: Path


@dataclass(frozen=True)
class _Pending:
    """A request that waits for answers of this process, which may die."""

    owner: str
    process: subprocess.Popen[bytes]
    answers: queue.SimpleQueue[dict[str, Any]]


class Cancelled(Exception):
    """A newer request of the same owner took the place of this one."""


class Previews:
    """Lives as long as the web process; the previewer comes and goes behind it."""

    def __init__(self, folder: Path, idle_seconds: float = IDLE_SECONDS):
        self._folder = folder
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._pending: dict[str, _Pending] = {}
        self._used = time.monotonic()

    def draw(self, owner: str, request: PreviewRequest) -> Iterator[Drawing | Drawn]:
        """Draw a picture: yields each step, last the file.

        Raises:
            Cancelled: `supersede` was called for the same owner meanwhile.
            SdloraError: the previewer refused, or died.
        """
        target = self._folder / f"{request.name}.png"
        if target.is_file():
            yield Drawn(target)
            return
        yield Drawing(0, 0)
        number = str(next(self._numbers))
        temporary = target.with_name(f".{target.stem}.{number}.png")
        answers = self._submit(owner, PreviewJob(number, request, temporary))
        try:
            for answer in self._progress(answers):
                if "file" in answer:
                    os.replace(temporary, target)
                    yield Drawn(target)
                    return
                yield Drawing(int(answer["step"]), int(answer["steps"]))
        finally:
            self._forget(number)
            temporary.unlink(missing_ok=True)

    def supersede(self, owner: str) -> None:
        """Cancel what this owner still waits for."""
        with self._lock:
            for number, pending in self._pending.items():
                if pending.owner == owner:
                    pending.answers.put({"cancelled": True})
                    _send(pending.process, {"cancel": number})

    def warm_up(self) -> None:
        """Start the process before it is needed: loading a base takes seconds."""
        with self._lock:
            self._running_process()

    def end_if_idle(self) -> None:
        """End the process after a while without a request, to free its memory."""
        with self._lock:
            if not self._pending and time.monotonic() - self._used > self._idle_seconds:
                self._end()

    def release(self, processes: int) -> None:
        """Give the GPU's memory back before a training of so many processes starts on the same card; returns when it is free."""
        if not previews_share_gpu(processes):
            return
        with self._lock:
            process, released = self._process, {"error": asdict(strings.preview.PREVIEWER_RELEASED)}
            for pending in self._pending.values():
                if pending.process is process:
                    pending.answers.put(released)
            self._end()
        if process:
            try:
                process.wait(RELEASE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()

    def close(self) -> None:
        with self._lock:
            self._end()

    def _submit(self, owner: str, job: PreviewJob) -> queue.SimpleQueue[dict[str, Any]]:
        self._folder.mkdir(parents=True, exist_ok=True)
        answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        with self._lock:
            process = self._running_process()
            self._pending[job.id] = _Pending(owner, process, answers)
            _send(process, job.to_json())
        return answers

    def _progress(self, answers: queue.SimpleQueue[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Steps, then the file. An error or a cancellation ends it by an exception."""
        while True:
            answer = answers.get()
            if "cancelled" in answer:
                raise Cancelled
            if "error" in answer:
                raise SdloraError(Text(str(answer["error"]["en"]), str(answer["error"]["ja"])))
            yield answer

    def _forget(self, number: str) -> None:
        with self._lock:
            self._pending.pop(number, None)
            self._used = time.monotonic()

    def _running_process(self) -> subprocess.Popen[bytes]:
        """The process, started anew where there is none or it died. Called under the lock."""
        self._used = time.monotonic()
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sdlora.processes.previewer"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **child_environment(), **preview_gpu()},
            )
            threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        return self._process

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Pass each line on to its request; when the process ends, fail all that are pending."""
        with process:  # closes its pipes in the end
            for line in process.stdout or ():
                self._dispatch(line)
        died = {"error": asdict(strings.preview.PREVIEWER_DIED)}
        with self._lock:
            for pending in self._pending.values():
                if pending.process is process:
                    pending.answers.put(died)

    def _dispatch(self, line: bytes) -> None:
        try:
            answer = json.loads(line)
        except ValueError:
            return  # a library printed something
        with self._lock:
            pending = self._pending.get(str(answer.get("id"))) if isinstance(answer, dict) else None
        if pending:
            pending.answers.put(answer)

    def _end(self) -> None:
        if self._process:
            self._process.terminate()
            self._process = None


def _send(process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    """One line. A process that just died is noticed by its reader, which also closes the pipe."""
    assert process.stdin
    with contextlib.suppress(BrokenPipeError, ValueError):
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
