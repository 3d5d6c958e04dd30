"""Background tasks that derive a LoRA from others: merge, resize, convert, extract, each a command in a process of its own.

One runs at a time. The process holds `.lock` in the entry's folder for its life, reports progress on stderr (`log.txt`), writes its file
and finally one JSON line on stdout (`answer.json`). Status is derived from these, as a job's is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sdlora.core import files
from sdlora.core.environment import child_environment
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.jobs import lock
from sdlora.jobs.ownership import LOCAL_ADMIN, User
from sdlora.jobs.paths import Workspace
from sdlora.library import catalog
from sdlora.library.catalog import PEFT, LibraryEntry

Status = Literal["ready", "working", "failed"]
_PROGRESS_LINE = re.compile(r"(\w+): (\d+) of (\d+)")


@dataclass(frozen=True)
class Progress:
    """`phase` is the title of the command's progress bar, "" before the first; `seconds_left` None = not known yet."""

    phase: str
    done: int
    total: int
    seconds_left: float | None


def start(workspace: Workspace, entry: LibraryEntry, arguments: Sequence[str]) -> LibraryEntry:
    """Run `python -m sdlora` with these arguments; its output file becomes the new entry.

    Raises:
        BadInput: another task is running.
    """
    catalog.folder(workspace).mkdir(parents=True, exist_ok=True)
    queue_lock = lock.acquire(catalog.folder(workspace) / ".making.lock", timeout=0.5)
    if queue_lock is None:
        raise BadInput(
            Text(
                "Another LoRA is being made. Wait until it is ready, or cancel it.",
                "別の LoRA を作成中です。完了を待つか、中止してください。",
            )
        )
    entry_lock: int | None = None
    try:
        with catalog.entry_folder(workspace, entry) as place:
            entry_lock = lock.acquire(place / ".lock", timeout=0.0)
            assert entry_lock is not None, "nobody else knows this folder yet"
        out = entry.home / PEFT if PEFT in arguments else entry.file
        _spawn([*arguments, "--out", str(out), "--json"], entry, (queue_lock, entry_lock))
    finally:
        for descriptor in (queue_lock, entry_lock):
            if descriptor is not None:
                os.close(descriptor)
    return catalog.get_entry(workspace, entry.id)


def _spawn(arguments: Sequence[str], entry: LibraryEntry, locks: tuple[int, int]) -> None:
    """Start the command in a session of its own, where the end of the web process does not end it. It inherits both locks."""
    place = entry.home
    with open(place / "log.txt", "wb") as log, open(place / "answer.json", "wb") as answer:
        process = subprocess.Popen(
            [sys.executable, "-m", "sdlora", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=answer,
            stderr=log,
            pass_fds=locks,
            env={**os.environ, **child_environment()},
            start_new_session=True,
        )
    files.write_json(place / "process.json", {"pid": process.pid})
    threading.Thread(target=process.wait, daemon=True).start()  # reaps it


def status(entry: LibraryEntry) -> Status:
    """Of a derived entry; trained and uploaded ones are ready unless their file is missing."""
    if entry.origin in ("trained", "added"):
        return "ready" if entry.file.exists() else "failed"
    if lock.is_held(entry.home / ".lock"):
        return "working"
    return "ready" if "sha256" in result(entry) and entry.file.exists() else "failed"


def result(entry: LibraryEntry) -> dict[str, Any]:
    """The command's JSON object: rank, sha256, energy kept, or an error; empty while it runs, or where it was killed."""
    lines, _ = files.read_lines(entry.home / "answer.json")
    try:
        return dict(json.loads(lines[-1])) if lines else {}
    except ValueError:
        return {}


def progress(entry: LibraryEntry) -> Progress:
    """The last progress line in the log, and a linear estimate of the time left."""
    lines = _PROGRESS_LINE.findall(files.tail(entry.home / "log.txt"))
    if not lines:
        return Progress("", 0, 0, None)
    phase, done, total = lines[-1][0], int(lines[-1][1]), int(lines[-1][2])
    seconds = time.time() - entry.created
    left = seconds * (total - done) / done if done > 1 and seconds > 3 else None
    return Progress(phase, done, total, left)


def reason(entry: LibraryEntry) -> Text:
    """Why the task failed."""
    error = result(entry).get("error")
    if error:
        return Text(error["en"], error["ja"])
    return Text(
        "The process ended unexpectedly; perhaps the memory was not enough. Try again.",
        "処理が突然終了しました。メモリー不足の可能性があります。もう一度お試しください。",
    )


def cancel(workspace: Workspace, id: str, user: User = LOCAL_ADMIN) -> None:
    """Kill the process and remove the entry."""
    entry = catalog.get_entry(workspace, id, user)
    lock_file = entry.home / ".lock"
    if lock.is_held(lock_file):  # the process lives, so its id was not given to another one
        os.killpg(int(files.read_json(entry.home / "process.json")["pid"]), signal.SIGKILL)
        for _ in range(100):
            if not lock.is_held(lock_file):
                break
            time.sleep(0.02)
    shutil.rmtree(entry.home, ignore_errors=True)
