"""The headers of LoRA files, read once for all pages: an unchanged file is not read again."""

from __future__ import annotations

import contextlib
from pathlib import Path

from sdlora.core.errors import BadInput
from sdlora.core.lru_cache import LruCache
from sdlora.lora_files.inspect import Inspection, inspect_file

MAX_FILES = 2000  # a header's facts are some kilobytes, its metadata up to a hundred


class HeaderCache:
    """Inspections by path, time of change and size."""

    def __init__(self) -> None:
        self._inspections: LruCache[tuple[Path, int, int], Inspection | None] = LruCache(MAX_FILES)

    def inspect(self, file: Path) -> Inspection | None:
        """None for a file that is missing or no readable LoRA. The sha256 is not computed."""
        try:
            facts = file.stat()
        except OSError:
            return None
        return self._inspections.get_or_make((file, facts.st_mtime_ns, facts.st_size), lambda: _inspect(file))


def _inspect(file: Path) -> Inspection | None:
    with contextlib.suppress(BadInput):
        return inspect_file(file, digest=False)
    return None
