"""What LoRA files say in their headers, read once for all pages: a file that does not change is not read again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from sdlora.core.errors import BadInput
from sdlora.lora_files.inspect import Inspection, inspect_file

KEPT = 2000  # a header's facts are some kilobytes, its metadata up to a hundred


class Known:
    """Facts by file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[Path, int, int], Inspection | None] = OrderedDict()

    def of(self, file: Path) -> Inspection | None:
        """None for what is no readable LoRA, or not there. Its sha256 is not worked out."""
        try:
            facts = file.stat()
        except OSError:
            return None
        key = (file, facts.st_mtime_ns, facts.st_size)
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        try:
            found = inspect_file(file, digest=False)
        except BadInput:
            found = None
        with self._lock:
            self._found[key] = found
            if len(self._found) > KEPT:
                self._found.popitem(last=False)
        return found
