"""Data sets that were opened lately. They never change, so one whose manifest is still the same file is not read again."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path

from sdlora.data.dataset import Dataset
from sdlora.data.store import MANIFEST, open_dataset

KEPT_ITEMS = 100_000  # in all: some 60 MB


class Opened:
    """Called as `open_dataset` is, and raises what that raises."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[Path, int, int], Dataset] = OrderedDict()

    def __call__(self, folder: Path) -> Dataset:
        try:
            facts = os.stat(folder / MANIFEST)
        except OSError:
            return open_dataset(folder)  # it says what is wrong
        key = (folder, facts.st_mtime_ns, facts.st_ino)
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        dataset = open_dataset(folder)
        with self._lock:
            self._found[key] = dataset
            while len(self._found) > 1 and sum(len(one.items) for one in self._found.values()) > KEPT_ITEMS:
                self._found.popitem(last=False)
        return dataset
