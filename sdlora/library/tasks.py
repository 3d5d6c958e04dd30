"""A LoRA made of others by a command of ours (merge, resize, convert, extract) in a process of its own, one at a time.

The process holds `.lock` in the entry's folder for its life, tells on stderr how far it is (`log.txt`), writes its file beside, and
last of all one JSON line on stdout (`answer.json`). Status is derived from these, as a job's is.
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
_LINE = re.compile(r"(\w+): (\d+) of (\d+)")


@dataclass(frozen=True)
class Progress:
    """`phase` is the command's own word (merging, cutting, …), "" before the first; `seconds_left` None where it is not known yet."""

    phase: str
    done: int
    total: int
    seconds_left: float | None


def start(workspace: Workspace, entry: LibraryEntry, words: Sequence[str]) -> LibraryEntry:
    """Run `python -m sdlora` with these words and fill the new entry with what comes out.

    Raises:
        BadInput: another one is being made.
    """
    catalog.folder(workspace).mkdir(parents=True, exist_ok=True)
    queue = lock.acquire(catalog.folder(workspace) / ".making.lock", timeout=0.5)
    if queue is None:
        raise BadInput(
            Text(
                "Another LoRA is being made. Wait until it is ready, or cancel it.",
                "別の LoRA を作成中です。完了を待つか、中止してください。",
            )
        )
    held: int | None = None
    try:
        with catalog.entry_folder(workspace, entry) as place:
            held = lock.acquire(place / ".lock", timeout=0.0)
            assert held is not None, "nobody else knows this folder yet"
        out = entry.home / PEFT if PEFT in words else entry.file
        _run([*words, "--out", str(out), "--json"], entry, (queue, held))
    finally:
        for descriptor in (queue, held):
            if descriptor is not None:
                os.close(descriptor)
    return catalog.get_entry(workspace, entry.id)


def _run(words: Sequence[str], entry: LibraryEntry, locks: tuple[int, int]) -> None:
    """In a session of its own: closing the web process does not reach it. It inherits both locks."""
    place = entry.home
    with open(place / "log.txt", "wb") as log, open(place / "answer.json", "wb") as answer:
        process = subprocess.Popen(
            [sys.executable, "-m", "sdlora", *words],
            stdin=subprocess.DEVNULL,
            stdout=answer,
            stderr=log,
            pass_fds=locks,
            env={**os.environ, **child_environment()},
            start_new_session=True,
        )
    files.write_json(place / "process.json", {"pid": process.pid})
    threading.Thread(target=process.wait, daemon=True).start()  # so that it does not stay as a zombie


def status(entry: LibraryEntry) -> Status:
    """Only what was made here can be anything but ready."""
    if entry.origin in ("trained", "added"):
        return "ready" if entry.file.exists() else "failed"
    if lock.is_held(entry.home / ".lock"):
        return "working"
    return "ready" if "sha256" in result(entry) and entry.file.exists() else "failed"


def result(entry: LibraryEntry) -> dict[str, Any]:
    """What the command said in the end: rank, sha256, energy kept, or an error; empty before, or where it was killed."""
    lines, _ = files.read_lines(entry.home / "answer.json")
    try:
        return dict(json.loads(lines[-1])) if lines else {}
    except ValueError:
        return {}


def progress(entry: LibraryEntry) -> Progress:
    found = _LINE.findall(files.tail(entry.home / "log.txt"))
    if not found:
        return Progress("", 0, 0, None)
    phase, done, total = found[-1][0], int(found[-1][1]), int(found[-1][2])
    seconds = time.time() - entry.created
    left = seconds * (total - done) / done if done > 1 and seconds > 3 else None
    return Progress(phase, done, total, left)


def reason(entry: LibraryEntry) -> Text:
    """Why it failed."""
    said = result(entry).get("error")
    if said:
        return Text(said["en"], said["ja"])
    return Text(
        "The process ended unexpectedly; perhaps the memory was not enough. Try again.",
        "処理が突然終了しました。メモリー不足の可能性があります。もう一度お試しください。",
    )


def cancel(workspace: Workspace, id: str, user: User = LOCAL_ADMIN) -> None:
    """End the process and forget what it made so far."""
    entry = catalog.get_entry(workspace, id, user)
    held = entry.home / ".lock"
    if lock.is_held(held):  # so the number is still its own
        os.killpg(int(files.read_json(entry.home / "process.json")["pid"]), signal.SIGKILL)
        for _ in range(100):
            if not lock.is_held(held):
                break
            time.sleep(0.02)
    shutil.rmtree(entry.home, ignore_errors=True)
