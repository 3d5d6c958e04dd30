"""Many open pages: each asks less often what is new, so that training keeps its cores."""

from __future__ import annotations

import json
from collections.abc import Callable

from playwright.sync_api import Page

from tests.browser import App
from tests.web.asking import ask, timer_event


def look(app: App, number: int, session: str) -> int:
    """The timer's event as a page's browser sends it; the seconds that it is told to wait."""
    wish = {"fn_index": number, "data": ["", [], "", "", "{}"], "session_hash": session}
    told = {"content-type": "application/json"}
    said = ask(app, "POST", "/en/gradio_api/run/predict", told, json.dumps(wish).encode())
    assert said.status == 200, said.body[:200]
    return int(json.loads(json.loads(said.body)["data"][-1])["seconds"])


def test_a_browser_asks_as_often_as_it_is_told(app: App, open_page: Callable[..., Page]) -> None:
    number = timer_event(json.loads(ask(app, "GET", "/en/config").body), "sent")
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if r.url.endswith("/run/predict") else None)
    page.wait_for_timeout(4000)
    assert len(asked) >= 6  # alone: what is new in training and in the library, once a second each
    assert [look(app, number, f"page{k}") for k in range(59)][-1] == 6
    page.wait_for_timeout(2500)  # it hears of it with its next question
    asked.clear()
    page.wait_for_timeout(9000)
    assert 2 <= len(asked) <= 4  # each of the two once in 6 seconds, in a phase of its own
