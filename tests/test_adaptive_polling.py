"""How often pages poll: the more are open, the less often each."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdlora.jobs.job_list import JobList
from sdlora.jobs.paths import Workspace
from sdlora.web import live
from sdlora.web.adaptive_polling import CLOSED_AFTER, MAX_INTERVAL, MAX_PAGES, AdaptivePolling
from sdlora.web.context import Page, Site
from sdlora.web.event_cache import EventCache
from sdlora.web.previews import Previews
from sdlora.web.security.media import Media


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_few_pages_poll_every_second_and_fifty_every_five() -> None:
    polling = AdaptivePolling(Clock())
    assert [polling.interval(f"{k}") for k in range(50)] == [1 + k // 10 for k in range(50)]
    assert polling.interval("0") == 5
    assert [polling.interval(f"{k}") for k in range(1000)][-1] == MAX_INTERVAL
    assert len(polling.last_request) == MAX_PAGES  # whatever names a browser invents


def test_closed_pages_are_forgotten() -> None:
    clock = Clock()
    polling = AdaptivePolling(clock)
    for k in range(50):
        polling.interval(f"{k}")
    clock.now = CLOSED_AFTER + 1
    assert polling.interval("0") == 1
    assert list(polling.last_request) == [hash("0")]


def test_the_interval_is_sent_only_when_it_changes(tmp_path: Path) -> None:
    """The timer starts anew whenever it is told its interval, so it hears of changes only."""
    place = Workspace(tmp_path)
    site = Site(place, Media(place.root), Previews(place.previews), EventCache(), JobList(place))
    page = Page(site, "en")

    def asked(session: str, sent: str) -> tuple[Any, str]:
        *_, timer, stamp = live.tick(replace(page, session=session), {}, "", [], "", "", sent)
        return timer, stamp

    for k in range(10):
        asked(f"{k}", "{}")
    timer, sent = asked("new", "{}")
    assert timer["value"] == 2
    assert json.loads(sent)["seconds"] == 2
    timer, sent = asked("new", sent)
    assert "value" not in timer
    assert json.loads(sent)["seconds"] == 2
