"""How often pages ask: the more are open, the less often each."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdlora.jobs.job_list import Overview
from sdlora.jobs.paths import Workspace
from sdlora.web import live
from sdlora.web.adaptive_polling import GONE, LONGEST, MOST, Crowd
from sdlora.web.context import Page, Site
from sdlora.web.event_cache import Watch
from sdlora.web.previews import Previews
from sdlora.web.security.media import Media


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_few_pages_ask_every_second_and_fifty_every_five() -> None:
    crowd = Crowd(Clock())
    assert [crowd.seconds(f"{k}") for k in range(50)] == [1 + k // 10 for k in range(50)]
    assert crowd.seconds("0") == 5
    assert [crowd.seconds(f"{k}") for k in range(1000)][-1] == LONGEST
    assert len(crowd.asked) == MOST  # whatever names a browser invents


def test_closed_pages_are_forgotten() -> None:
    clock = Clock()
    crowd = Crowd(clock)
    for k in range(50):
        crowd.seconds(f"{k}")
    clock.now = GONE + 1
    assert crowd.seconds("0") == 1
    assert list(crowd.asked) == [hash("0")]


def test_a_page_is_told_once(tmp_path: Path) -> None:
    """The timer starts anew whenever it is told its interval, so it hears of changes only."""
    place = Workspace(tmp_path)
    site = Site(place, Media(place.root), Previews(place.previews), Watch(), Overview(place))
    page = Page(site, "en")

    def asked(session: str, sent: str) -> tuple[Any, str]:
        *_, timer, stamp = live.tick(replace(page, session=session), ("jobs",), "", [], "", "", sent)
        return timer, stamp

    for k in range(10):
        asked(f"{k}", "{}")
    timer, sent = asked("new", "{}")
    assert timer["value"] == 2
    assert json.loads(sent)["seconds"] == 2
    timer, sent = asked("new", sent)
    assert "value" not in timer
    assert json.loads(sent)["seconds"] == 2
