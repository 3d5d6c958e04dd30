"""Large libraries imported while the garbage collector sleeps: it would walk their modules a hundred times and find nothing."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """For the first import of torch and diffusers in a process: 2.8 s of computing instead of 3.7 (one busy core).

    What they made is then left out of later collections, the last one at exit included.
    """
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
