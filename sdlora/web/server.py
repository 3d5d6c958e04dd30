"""The server: the page in two languages, the media route, the API, and the guard in front of all."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from sdlora.core.text import Language
from sdlora.jobs import store
from sdlora.jobs.job_list import JobList
from sdlora.jobs.launchers.launcher import Launcher
from sdlora.jobs.paths import Workspace
from sdlora.jobs.queue import Queue
from sdlora.library import catalog, trash
from sdlora.web import api, theme
from sdlora.web.context import Page, Site
from sdlora.web.event_cache import EventCache
from sdlora.web.handlers import log_exceptions
from sdlora.web.page import make_page
from sdlora.web.previews import Previews
from sdlora.web.security import uploads
from sdlora.web.security.guard import UPLOAD_BYTES, Guard, allowed_hosts
from sdlora.web.security.login import Login
from sdlora.web.security.media import Media
from sdlora.web.security.user_file import UserFile
from sdlora.web.shell import COOKIE, Shell

LANGUAGES: tuple[Language, ...] = ("en", "ja")


def make_app(
    workspace: Workspace,
    host: str = "127.0.0.1",
    names: Sequence[str] = (),
    password: str = "",
    users: UserFile | None = None,
    launcher: Launcher | None = None,
) -> FastAPI:
    """The whole server. While it runs it owns the queue's clock and the previewer process.

    `host` is the address that it will be bound to, `names` are other names that it may be called by.
    `users`: who may log in, each with a password of their own; without it, `password` lets anybody in.
    `launcher` starts the jobs.
    """
    workspace.make()
    store.clear_leftovers(workspace)
    catalog.clear_temporaries(workspace)
    trash.empty_trash(workspace, trash.MAX_DAYS)
    site = Site(
        workspace,
        Media(workspace.root),
        Previews(workspace.previews),
        EventCache(),
        JobList(workspace),
        launcher or Launcher(),
    )
    folder = uploads.prepare(workspace)
    app = FastAPI(lifespan=_lifespan(site), docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/")
    def home(request: Request) -> Response:
        return RedirectResponse(f"/{wanted_language(request)}/", status_code=307)

    @app.get("/media/{key}")
    def media(key: str) -> Response:
        return site.media.respond(key)

    for language in LANGUAGES:
        blocks = make_page(Page(site, language))
        gr.mount_gradio_app(
            app,
            blocks,
            path=f"/{language}",
            allowed_paths=[],
            max_file_size=UPLOAD_BYTES,
            show_error=False,
            ssr_mode=False,
            run_history=False,
            footer_links=[],
            theme=theme.theme(),
            css=theme.style(language),
        )
    api.add_api(app, workspace, site.launcher)
    app.add_middleware(Shell)
    app.add_middleware(
        Guard,
        hosts=allowed_hosts(host, names),
        anywhere=host in ("", "0.0.0.0", "::"),
        login=Login(password, users) if password or users else None,
        uploads=folder,
        by_token=api.tokens(workspace, users),
    )
    return app


def wanted_language(request: Request) -> Language:
    """The language chosen before, else the first of the browser's that the page has."""
    chosen = request.cookies.get(COOKIE)
    accepted = [
        part.split(";")[0].strip()[:2].lower() for part in request.headers.get("accept-language", "").split(",")
    ]
    for language in (chosen, *accepted):
        if language in LANGUAGES:
            return language
    return "en"


def _lifespan(site: Site) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        ended = threading.Event()
        clock = threading.Thread(target=_clock, args=(site, ended), name="queue", daemon=True)
        clock.start()
        yield
        ended.set()
        clock.join(2.0)  # from here on it starts no job
        site.previews.close()

    return lifespan


def _clock(site: Site, ended: threading.Event) -> None:
    """Every second, also with no page open: start queued jobs, end an idle previewer, remove abandoned uploads."""
    queue = Queue(site.workspace, site.launcher, site.job_list, before_start=site.previews.release)
    while not ended.wait(1.0):
        log_exceptions(queue.tick)  # a clock that stopped would leave jobs waiting for good
        log_exceptions(site.previews.end_if_idle)
        log_exceptions(partial(uploads.sweep, site.workspace.root / uploads.FOLDER))
