"""When a state is written, and by whom: at once, or by a thread from a copy while training goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sdlora.core.errors import SdloraError

GPU_SECONDS = 20.0  # at least, between two states of a GPU: it makes 50 steps of SD 1.x in 5 s, a state of SDXL takes 3 s to write


@dataclass
class StateWriter:
    """One state at a time. A fault of the thread is raised by the next call.

    With a GPU the processor writes while training goes on; on a CPU it would take the cores that train, so there it writes at once.
    """

    background: bool
    clock: Callable[[], float] = time.monotonic
    _began: float = float("-inf")  # of the last one in the background
    _thread: threading.Thread | None = None
    _error: Exception | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def is_due(self) -> bool:
        """Whether one may be written now; in the background not while another is, nor within `GPU_SECONDS` of it."""
        self.raise_error()
        return not self.background or (not self._is_busy() and self.clock() - self._began >= GPU_SECONDS)

    def write(self, save: Callable[[], None]) -> None:
        """In this thread, after whatever is being written."""
        with self._lock:
            save()

    def start(self, save: Callable[[], None]) -> None:
        """In a thread of its own. `save` must hold copies of what changes."""
        self._began = self.clock()
        # Not a daemon: a process that ends by itself finishes its state. One that is killed leaves the state before.
        self._thread = threading.Thread(target=self._run, args=(save,), name="state")
        self._thread.start()

    def wait(self) -> None:
        """Until nothing is being written."""
        if self._thread:
            self._thread.join()

    def raise_error(self) -> None:
        error, self._error = self._error, None
        if error:
            raise error

    def _is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self, save: Callable[[], None]) -> None:
        try:
            self.write(save)
        except (SdloraError, OSError) as error:
            self._error = error
