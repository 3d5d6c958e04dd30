"""A disk that fails: stands where `sdlora.core.files` has `os`, counts its operations and breaks one of them.

Three ways to break, as SQLite tests its own: *error* (the operation raises), *kill* (the process is gone after it), *power*
(the machine is: bytes and names that were not fsynced are lost).
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

COUNTED = {"open", "write", "fsync", "replace", "rename", "unlink", "rmdir", "makedirs"}


class Gone(BaseException):
    """The process was killed or the power went."""


@dataclass
class Disk:
    """Proxy for the `os` module. Breaks operation number `at` (from 1); 0 = none. Files are known by their inodes."""

    how: Literal["error", "kill", "power"]
    at: int = 0
    done: int = 0
    content: dict[int, bytes] = field(default_factory=dict)  # of files, as it survives
    names: dict[int, dict[str, int]] = field(default_factory=dict)  # in folders, as they survive
    opened: dict[int, str] = field(default_factory=dict)  # by descriptor
    seen: set[str] = field(default_factory=set)  # every path that was opened

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return (lambda *a, **k: self._do(name, real, *a, **k)) if name in COUNTED else real

    def _do(self, name: str, real: Any, *arguments: Any, **named: Any) -> Any:
        self.done += 1
        if self.done == self.at and self.how == "error":
            raise OSError((errno.EIO, errno.ENOSPC)[self.at % 2], "injected")
        if self.done == self.at and name == "write":
            real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            raise Gone
        new = name in ("open", "makedirs") and not os.path.exists(arguments[0])
        result = real(*arguments, **named)
        if new:  # an inode number that was used before means a new file now
            inode = os.stat(arguments[0]).st_ino
            self.content.pop(inode, None)
            self.names.pop(inode, None)
        if name == "open":
            self.opened[result] = str(arguments[0])
            self.seen.add(str(arguments[0]))
        if name == "fsync":
            self.sync(Path(self.opened[arguments[0]]))
        if self.done == self.at:
            raise Gone
        return result

    def sync(self, path: Path) -> None:
        """The bytes of this file, or the names in this folder, are on the disk now."""
        inode = path.stat().st_ino
        if path.is_dir():
            self.names[inode] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self.content[inode] = path.read_bytes()

    def sync_all(self, root: Path) -> None:
        for path in [root, *root.rglob("*")]:
            self.sync(path)

    def after_power_loss(self, inode: int, target: Path) -> None:
        """Write what survived of the folder with this inode into `target`."""
        target.mkdir()
        for name, child in self.names.get(inode, {}).items():
            if child in self.content:
                (target / name).write_bytes(self.content[child])
            elif child in self.names or "." not in name.lstrip("."):
                self.after_power_loss(child, target / name)
            else:
                (target / name).write_bytes(b"")  # a name whose bytes never arrived
