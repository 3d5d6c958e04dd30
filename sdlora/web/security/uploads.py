"""Uploads: what a form may hold, the folder they go to, and the removal of abandoned ones."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from sdlora.jobs.paths import Workspace

FOLDER = "uploads"  # in the workspace; emptied at the start and after each import
FIELD_BYTES = 64 * 1024  # of a part without a file name: gradio would gather it in memory
ROOM = 1_000_000_000  # bytes that an upload must leave free: a running job needs them
TORN_SECONDS = 60.0  # before the file of a torn upload, which no process has open, is removed
FORGOTTEN_SECONDS = 7200.0  # before a whole upload is removed that was not imported, since the tab was closed


class TooLarge(Exception):
    """A form field without a file that is as large as only a file may be."""


class Unreadable(Exception):
    """Not the multipart body that a browser sends."""


class Form:
    """Checks a multipart body as it streams by, with the parser that gradio uses after it: both see the same parts."""

    def __init__(self, content_type: str):
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise Unreadable
        self._name = self._value = b""
        self._is_file = False
        self._field_bytes = 0
        callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
        }
        self._parser = MultipartParser(options[b"boundary"], callbacks)  # type: ignore[arg-type]

    def feed(self, data: bytes) -> None:
        """Raises TooLarge or Unreadable."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Unreadable from error

    def _begin(self) -> None:
        self._name = self._value = b""
        self._is_file = False

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._is_file = b"filename" in parse_options_header(self._value)[1]
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self._field_bytes += end - start  # of all such parts together
            if self._field_bytes > FIELD_BYTES:
                raise TooLarge


def prepare(workspace: Workspace) -> Path:
    """Uploads go into the workspace, where there is room; what a killed server left there is removed."""
    folder = workspace.root / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # gradio reads it at each upload
    return folder


def has_room(folder: Path, size: int) -> bool:
    return shutil.disk_usage(folder).free > size + ROOM


def sweep(folder: Path, now: float | None = None) -> None:
    """Remove torn uploads after a minute and forgotten ones after two hours. An upload in progress is an open file."""
    now = time.time() if now is None else now
    in_use = set(_open_files())
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):  # an import may take it away at the same moment
            age = now - entry.stat().st_mtime
            torn = entry.is_file() and os.path.realpath(entry) not in in_use and age > TORN_SECONDS
            if torn:
                entry.unlink()
            elif age > FORGOTTEN_SECONDS and entry.is_dir():
                shutil.rmtree(entry)


def _open_files() -> Iterator[str]:
    """Where the system tells (Linux); elsewhere a torn upload looks like one that rests for a minute."""
    for descriptor in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(OSError):
            yield os.readlink(descriptor)
