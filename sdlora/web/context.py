"""What every screen is built with: the site behind it and the language it speaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sdlora.core.text import Language, Text
from sdlora.data import DatasetCache
from sdlora.data.checks import doctor
from sdlora.jobs.job_list import Overview
from sdlora.jobs.paths import Workspace
from sdlora.jobs.users import EVERYBODY, User
from sdlora.web.adaptive_polling import Crowd
from sdlora.web.event_cache import Watch
from sdlora.web.header_cache import Known
from sdlora.web.previews import Previews
from sdlora.web.security.media import Media

USER_HEADER = "x-sdlora-user"  # written by the guard: `name:admin` or `name:user`
MEMORY = "sdlora"  # gradio wants a key to scramble what it keeps in the browser; nothing secret is kept there


@dataclass(frozen=True)
class Site:
    """One installation: shared by the pages of all languages and by all browsers."""

    workspace: Workspace
    media: Media
    previews: Previews
    watch: Watch
    overview: Overview
    open_dataset: DatasetCache = field(default_factory=DatasetCache)
    looks: doctor.Known = field(default_factory=dict)  # at pictures, by the doctor
    known: Known = field(default_factory=Known)
    crowd: Crowd = field(default_factory=Crowd)


@dataclass(frozen=True)
class Page:
    """The site in one language, as one user sees it; `session` is one opening of it in a browser."""

    site: Site
    language: Language
    user: User = EVERYBODY
    session: str = ""

    @property
    def workspace(self) -> Workspace:
        return self.site.workspace

    def say(self, text: Text, **values: Any) -> str:
        return (text.fill(**values) if values else text).say(self.language)


def user_of(header: str) -> User:
    """Who asks, by what the guard wrote. Without a word of it nobody in particular, who may do nothing of others."""
    name, _, role = header.partition(":")
    return User(name, role == "admin")
