"""How often a page asks what is new: once a second, and less often where many pages are open."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

ASKED = 10.0  # times a second, by all open pages together
LONGEST = 20  # seconds between two questions of a page
GONE = 60.0  # seconds without a question after which a page counts as closed


@dataclass
class Crowd:
    """The open pages by when each last asked. Training and pages share a machine: fifty pages that ask every second take a
    fifth of one core from it."""

    clock: Callable[[], float] = time.monotonic
    asked: dict[str, float] = field(default_factory=dict)

    def seconds(self, page: str) -> int:
        """This page asks now; when it should again. Whole seconds, so that it seldom changes."""
        now = self.clock()
        self.asked[page] = now
        for other, last in list(self.asked.items()):
            if now - last > GONE:
                self.asked.pop(other, None)
        return min(LONGEST, max(1, math.ceil(len(self.asked) / ASKED)))
