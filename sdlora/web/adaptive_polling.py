"""How often a page asks what is new: once a second, and less often where many pages are open."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

ASKED = 10.0  # times a second, by all open pages together
LONGEST = 20  # seconds between two questions of a page
MOST = int(LONGEST * ASKED)  # pages remembered: more change nothing, and names come from browsers
GONE = 60.0  # seconds without a question after which a page counts as closed


@dataclass
class Crowd:
    """The open pages by when each last asked. Training and pages share a machine: fifty pages that ask every second take a
    fifth of one core from it."""

    clock: Callable[[], float] = time.monotonic
    asked: dict[int, float] = field(default_factory=dict)  # by the name's hash, newest last

    def seconds(self, page: str) -> int:
        """This page asks now; when it should again. Whole seconds, so that it seldom changes."""
        key, now = hash(page), self.clock()
        self.asked.pop(key, None)
        self.asked[key] = now
        for other, last in list(self.asked.items()):
            if now - last <= GONE and len(self.asked) <= MOST:
                break
            self.asked.pop(other, None)
        return math.ceil(len(self.asked) / ASKED)
