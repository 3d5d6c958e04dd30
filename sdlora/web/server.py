"""Puts the page and the server together: two languages, one media route, one guard in front."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from markupsafe import Markup

from sdlora.core.text import Language, Text
from sdlora.jobs import store
from sdlora.jobs.job_list import JobList
from sdlora.jobs.launchers.launcher import Launcher
from sdlora.jobs.paths import Workspace
from sdlora.jobs.queue import Queue
from sdlora.library import catalog, trash
from sdlora.web import api, live, theme
from sdlora.web.context import Page, Site
from sdlora.web.event_cache import EventCache
from sdlora.web.handlers import event, log_exceptions
from sdlora.web.previews import Previews
from sdlora.web.screens import checkup, library, pictures, preview, settings, train
from sdlora.web.security import uploads
from sdlora.web.security.guard import UPLOAD_BYTES, Guard, allowed_hosts
from sdlora.web.security.login import Login
from sdlora.web.security.media import Media
from sdlora.web.security.user_file import UserFile
from sdlora.web.shell import COOKIE, Shell
from sdlora.web.strings import library_words, words
from sdlora.web.views import glossary

LANGUAGES: tuple[Language, ...] = ("en", "ja")


def make_app(
    workspace: Workspace,
    host: str = "127.0.0.1",
    names: Sequence[str] = (),
    password: str = "",
    users: UserFile | None = None,
    launcher: Launcher | None = None,
) -> FastAPI:
    """The whole server. It owns two helpers for its life: the queue's clock and the previewer.

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
    app = FastAPI(lifespan=_life(site), docs_url=None, redoc_url=None, openapi_url=None)

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


def make_page(page: Page) -> gr.Blocks:
    """Five steps in the order of the work, then what happens when the page is opened."""
    with gr.Blocks(title="sdlora", analytics_enabled=False, fill_width=True) as blocks:
        timer = gr.Timer(1)  # seconds; longer where many pages are open, see `adaptive_polling`
        gr.HTML(_header(page), elem_id="header")
        with _section(page, 1, "pictures", words.PICTURES, words.PICTURES_LEAD):
            step1 = pictures.build(page)
        with _section(page, 2, "settings", words.SETTINGS, words.SETTINGS_LEAD):
            step2 = settings.build(page, step1)
        with _section(page, 3, "train", words.TRAIN, words.TRAIN_LEAD):
            step3 = train.build(page, step1, step2)
        with _section(page, 4, "try", words.TRY, words.TRY_LEAD):
            step4 = preview.build(page, step3)
        with _section(page, 5, "library", library_words.LIBRARY, library_words.LEAD):
            step5 = library.build(page, timer)
        live.build(page, timer, step1, step3, step4)
        found = blocks.load(
            event(page, opened, step2),
            [step1.remembered, step2.draft, step3.job],
            [
                *step1.shown,
                step2.preset,
                *step2.form.fields.values(),
                step3.job,
                *step4.initial,
            ],
            show_progress="hidden",
        )
        found.then(lambda: gr.update(interactive=True), None, step1.upload, show_progress="hidden", queue=False)
        found.then(**checkup.build(page, step1, step2))
        blocks.load(event(page, library.show, step5), step5.search, step5.shown, show_progress="hidden")
    blocks.queue(max_size=64, default_concurrency_limit=4)
    return blocks


def opened(page: Page, step2: settings.Settings, dataset: Any, draft: Any, job: Any) -> list[Any]:
    """Find again what was being done: in this browser, else in any."""
    shown_job = live.current_job(page, job)
    current = pictures.found_again(page, dataset, shown_job)
    history = [current.id] if current else []
    form = settings.restore(page, step2, draft or live.settings_of(page, shown_job))
    return [*pictures.show(page, current, history), *form, shown_job, *live.initialise(page, shown_job, "")]


def _header(page: Page) -> Markup:
    steps = (
        ("pictures", words.PICTURES),
        ("settings", words.SETTINGS),
        ("train", words.TRAIN),
        ("try", words.TRY),
        ("library", library_words.LIBRARY),
    )
    links = Markup("").join(
        Markup('<a href="#{}"><b>{}</b><span>{}</span></a>').format(anchor, number, page.say(title))
        for number, (anchor, title) in enumerate(steps, 1)
    )
    other = "ja" if page.language == "en" else "en"
    return Markup(
        '<a class="skip" href="#pictures">{}</a><header class="top"><a class="brand" href="/{}/">sdlora</a><nav class="steps">{}</nav>'
        '<button id="theme" type="button" aria-label="{}" title="{}"></button>'
        '<a id="language" href="/{}/" lang="{}" title="{}">{}</a></header>'
        '<div class="hero"><h1>{}</h1><p>{}</p>{}</div>'
    ).format(
        page.say(words.SKIP_LINK),
        page.language,
        links,
        page.say(words.THEME),
        page.say(words.THEME),
        other,
        other,
        page.say(words.OTHER_LANGUAGE_HINT),
        page.say(words.OTHER_LANGUAGE),
        page.say(words.TAGLINE),
        page.say(words.LEAD),
        glossary.view(page),
    )


def _section(page: Page, number: int, anchor: str, title: Text, lead: Text) -> gr.Column:
    column = gr.Column(elem_id=anchor, elem_classes="step")
    with column:
        gr.HTML(
            Markup('<h2><b aria-label="{}">{}</b>{}</h2><p class="lead">{}</p>').format(
                page.say(words.STEP, n=number), number, page.say(title), page.say(lead)
            )
        )
    return column


def wanted_language(request: Request) -> Language:
    """The one chosen before, else the first of the browser's that we speak."""
    chosen = request.cookies.get(COOKIE)
    accepted = [
        part.split(";")[0].strip()[:2].lower() for part in request.headers.get("accept-language", "").split(",")
    ]
    for language in (chosen, *accepted):
        if language in LANGUAGES:
            return language
    return "en"


def _life(site: Site) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        ended = threading.Event()
        clock = threading.Thread(target=_clock, args=(site, ended), name="queue", daemon=True)
        clock.start()
        yield
        ended.set()
        clock.join(2.0)  # from here on it starts no job
        site.previews.close()

    return life


def _clock(site: Site, ended: threading.Event) -> None:
    """Queued jobs start with no page open; an idle previewer goes, and so do uploads that nobody finished."""
    queue = Queue(site.workspace, site.launcher, site.job_list)
    while not ended.wait(1.0):
        log_exceptions(queue.tick)  # a clock that stopped would leave jobs waiting for good
        log_exceptions(site.previews.end_if_idle)
        log_exceptions(partial(uploads.sweep, site.workspace.root / uploads.FOLDER))
