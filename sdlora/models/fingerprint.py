"""A hash that tells whether a base is still the one that a job was made with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from sdlora.models.folder import weight_files


def fingerprint(path: Path, part: str = "") -> str:
    """A hash that changes when the base (or one part of it, such as `vae`; of a single file, the whole) does.

    Files up to 64 MB are hashed whole. Larger ones by size, their first megabyte (names and shapes of all tensors)
    and 256 blocks of 64 KB spread over the rest: a fine-tune moves every tensor, and reading 7 GB before each job
    would cost more than it protects.
    """
    total = hashlib.sha256()
    for file in [path] if path.is_file() else _files(path, part):
        total.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
        for block in _blocks(file):
            total.update(block)
    return total.hexdigest()


def _files(folder: Path, part: str) -> list[Path]:
    configs = [p for inner in folder.iterdir() if inner.is_dir() for p in inner.glob("*.json")]
    return sorted(p for p in [*configs, *weight_files(folder)] if p.parent.name.startswith(part))


def _blocks(path: Path, whole: int = 64 << 20, count: int = 256, size: int = 64 << 10) -> Iterator[bytes]:
    length = path.stat().st_size
    with open(path, "rb") as file:
        if length <= whole:
            yield file.read()
            return
        yield file.read(1 << 20)
        for k in range(count):
            file.seek((length - size) * k // (count - 1))
            yield file.read(size)
