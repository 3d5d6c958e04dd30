"""Many open pages: each polls less often, so that training keeps its cores."""

from __future__ import annotations

import json
from collections.abc import Callable

from playwright.sync_api import Page

from tests.browser import App
from tests.web.asking import ask, timer_event


def interval(app: App, number: int, session: str) -> int:
    """The timer's event as a page's browser sends it; the seconds that it is told to wait."""
    payload = {"fn_index": number, "data": ["", [], "", "", "{}"], "session_hash": session}
    headers = {"content-type": "application/json"}
    answer = ask(app, "POST", "/en/gradio_api/run/predict", headers, json.dumps(payload).encode())
    assert answer.status == 200, answer.body[:200]
    return int(json.loads(json.loads(answer.body)["data"][-1])["seconds"])


def test_a_browser_polls_at_its_interval(app: App, open_page: Callable[..., Page]) -> None:
    number = timer_event(json.loads(ask(app, "GET", "/en/config").body), "sent")
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if r.url.endswith("/run/predict") else None)
    page.wait_for_timeout(4000)
    assert len(asked) >= 6  # alone: what is new in training and in the library, once a second each
    assert [interval(app, number, f"page{k}") for k in range(59)][-1] == 6
    page.wait_for_timeout(2500)  # it hears of it with its next question
    asked.clear()
    page.wait_for_timeout(9000)
    assert 2 <= len(asked) <= 4  # each of the two once in 6 seconds, in a phase of its own
