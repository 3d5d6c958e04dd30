"""Open data sets, kept in memory: they never change, so one whose manifest is still the same file is not read again."""

from __future__ import annotations

import os
from pathlib import Path

from sdlora.core.lru_cache import LruCache
from sdlora.data.dataset import Dataset
from sdlora.data.store import MANIFEST, open_dataset

MAX_ITEMS = 100_000  # over all data sets: some 60 MB


class DatasetCache:
    """Call it like `open_dataset`; it raises the same."""

    def __init__(self) -> None:
        self._datasets: LruCache[tuple[Path, int, int], Dataset] = LruCache(MAX_ITEMS, lambda one: len(one.items))

    def __call__(self, folder: Path) -> Dataset:
        try:
            facts = os.stat(folder / MANIFEST)
        except OSError:
            return open_dataset(folder)  # raises with the reason
        key = (folder, facts.st_mtime_ns, facts.st_ino)
        return self._datasets.get_or_make(key, lambda: open_dataset(folder))
