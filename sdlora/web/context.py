"""What every screen and every handler gets: the site behind the page, its language and its user."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sdlora.core.text import Language, Text
from sdlora.data import DatasetCache
from sdlora.data.checks import doctor
from sdlora.jobs.job_list import JobList
from sdlora.jobs.launchers.launcher import Launcher
from sdlora.jobs.ownership import LOCAL_ADMIN, User
from sdlora.jobs.paths import Workspace
from sdlora.web.adaptive_polling import AdaptivePolling
from sdlora.web.event_cache import EventCache
from sdlora.web.header_cache import HeaderCache
from sdlora.web.previews import Previews
from sdlora.web.security.media import Media

USER_HEADER = "x-sdlora-user"  # written by the guard: `name:admin` or `name:user`
STORAGE_KEY = "sdlora"  # of what the browser keeps; also gradio's key to scramble it, though nothing in it is secret


@dataclass(frozen=True)
class Site:
    """One installation: shared by the pages of all languages and by all browsers."""

    workspace: Workspace
    media: Media
    previews: Previews
    events: EventCache
    job_list: JobList
    launcher: Launcher = field(default_factory=Launcher)
    open_dataset: DatasetCache = field(default_factory=DatasetCache)
    image_stats: doctor.StatsCache = field(default_factory=dict)  # of the checks of data sets
    headers: HeaderCache = field(default_factory=HeaderCache)
    polling: AdaptivePolling = field(default_factory=AdaptivePolling)


@dataclass(frozen=True)
class Page:
    """The site in one language, as one user sees it; `session` is one opening of it in a browser."""

    site: Site
    language: Language
    user: User = LOCAL_ADMIN
    session: str = ""

    @property
    def workspace(self) -> Workspace:
        return self.site.workspace

    def say(self, text: Text, **values: Any) -> str:
        return (text.fill(**values) if values else text).say(self.language)


def user_of(header: str) -> User:
    """The user that the guard wrote into the header. Without a header: a user without a name or rights."""
    name, _, role = header.partition(":")
    return User(name, role == "admin")
