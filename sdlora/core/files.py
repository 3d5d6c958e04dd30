"""Files that another process reads: written whole (temporary name, fsync, rename) or appended by line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: a reader sees the old file or the new one, never a part, also after power loss."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        create(temporary, data)
        os.replace(temporary, path)
    except OSError:
        _forget(temporary)
        raise
    sync_folder(path.parent)


def create(path: Path, data: bytes) -> None:
    """A file with these bytes, on the disk and not only in its cache; its name is durable after `sync_folder`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _forget(path: Path) -> None:
    """Remove a file if that can be done: on a broken disk, the first fault is the one to tell."""
    try:
        os.unlink(path)
    except OSError:
        return


_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")


def clear_temporaries(folder: Path, age: float = 0.0) -> None:
    """Remove what writers of `write_bytes` left behind when they were killed; a living one's file stays.

    Where writers on other machines, whose processes nobody sees here, share the folder: what is `age` seconds old.
    """
    for name in os.listdir(folder) if folder.is_dir() else ():
        writer = _TEMPORARY.fullmatch(name)
        if writer and not _alive(int(writer[1])) and _older(folder / name, age):
            _forget(folder / name)


def _older(path: Path, seconds: float) -> bool:
    try:
        return not seconds or time.time() - path.stat().st_mtime > seconds
    except FileNotFoundError:  # it has its name by now
        return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()  # a number that is ours now was somebody else's then


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, if they are not there."""
    os.makedirs(folder, exist_ok=True)


def move_folder(source: Path, target: Path) -> None:
    """Rename a finished folder into its place. `target` must not exist. Durable when this returns."""
    sync_folder(source)
    os.rename(source, target)
    sync_folder(target.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder of plain files. What cannot be removed stays."""
    try:
        for name in os.listdir(folder):
            os.unlink(folder / name)
        os.rmdir(folder)
    except OSError:
        return


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, to_json(value))


def to_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: str) -> None:
    """Append one line by one write call, so that lines of a killed writer are whole or the last one.

    Raises OSError where the disk had no room for all of it; the part that went in is taken back.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    data = line.encode() + b"\n"
    try:
        written = os.write(descriptor, data)
        if written < len(data):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def read_lines(path: Path, offset: int = 0) -> tuple[list[bytes], int]:
    """The complete lines after byte `offset`, and the offset to go on from. A missing file has no lines."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    return data[:end].splitlines(), offset + end


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tail(path: Path, size: int = 4096) -> str:
    """The last `size` bytes of a text file; empty where there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link `source` at `target`; copy where the file system cannot link."""
    try:
        os.link(source, target)
    except OSError:
        target.write_bytes(source.read_bytes())


def walk(folder: Path) -> Iterator[Path]:
    """All regular files below `folder`, sorted by relative path; links are not followed."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path
