"""How often an open page polls: every second, and less often where many pages are open."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

REQUESTS_PER_SECOND = 10.0  # by all open pages together
MAX_INTERVAL = 20  # seconds
MAX_PAGES = int(MAX_INTERVAL * REQUESTS_PER_SECOND)  # remembered: more change nothing, and names come from browsers
CLOSED_AFTER = 60.0  # seconds without a request


@dataclass
class AdaptivePolling:
    """The open pages by the time of their last request. Training and pages share a machine: fifty pages that poll every
    second take a fifth of one core from it."""

    clock: Callable[[], float] = time.monotonic
    last_request: dict[int, float] = field(default_factory=dict)  # by the hash of the page's name, newest last

    def interval(self, page: str) -> int:
        """Note a request of this page; seconds until its next. Whole seconds, so that the value seldom changes."""
        key, now = hash(page), self.clock()
        self.last_request.pop(key, None)
        self.last_request[key] = now
        for other, last in list(self.last_request.items()):
            if now - last <= CLOSED_AFTER and len(self.last_request) <= MAX_PAGES:
                break
            self.last_request.pop(other, None)
        return math.ceil(len(self.last_request) / REQUESTS_PER_SECOND)
