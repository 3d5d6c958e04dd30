"""`python -m tests.dummy_screen FOLDER LANGUAGE`: the page with one screen more, as gradio's config in JSON. Gradio leaves event loops open."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from sdlora.core.text import Text
from sdlora.jobs.job_list import JobList
from sdlora.jobs.paths import Workspace
from sdlora.web import page as web_page
from sdlora.web.context import Page, Site
from sdlora.web.event_cache import EventCache
from sdlora.web.previews import Previews
from sdlora.web.screens.pictures import Pictures
from sdlora.web.screens.screen import Built, Screen
from sdlora.web.security.media import Media
from sdlora.web.snapshot import LivePart

# `sdlora/web/strings/dummy.py`
TITLE = Text("Dummy", "ダミー")
LEAD = Text("A screen of a test.", "テスト用の画面。")
COUNT = Text("{n} jobs", "{n} 件")


# `sdlora/web/screens/dummy.py`
@dataclass(frozen=True)
class Dummy:
    count: gr.HTML


def build(page: Page, built: Built) -> Dummy:
    assert built[Pictures].upload  # those before it are there
    return Dummy(gr.HTML(page.say(COUNT, n=0), elem_id="dummy-count"))


def live_parts(screen: Dummy) -> dict[str, LivePart]:
    return {"dummy": LivePart(screen.count, lambda page, now, follower: page.say(COUNT, n=len(now.jobs)))}


if __name__ == "__main__":
    # The third of the three: one line in `sdlora/web/page.py`.
    web_page.SCREENS = (*web_page.SCREENS, Screen("dummy", TITLE, LEAD, build, live_parts))
    place = Workspace(Path(sys.argv[1])).make()
    site = Site(place, Media(place.root), Previews(place.previews), EventCache(), JobList(place))
    language = "ja" if sys.argv[2] == "ja" else "en"
    print(json.dumps(web_page.make_page(Page(site, language)).config, default=str))
