"""The page: the list of its screens, and what happens when it is opened."""

from __future__ import annotations

from typing import Any

import gradio as gr

from sdlora.web import live, strings
from sdlora.web.context import Page
from sdlora.web.handlers import event
from sdlora.web.screens import checkup, library, pictures, preview, settings, train
from sdlora.web.screens.library import Library
from sdlora.web.screens.pictures import Pictures
from sdlora.web.screens.preview import Preview
from sdlora.web.screens.screen import Built, Screen
from sdlora.web.screens.settings import Settings
from sdlora.web.screens.train import Train
from sdlora.web.snapshot import LivePart
from sdlora.web.views.render import html

SCREENS = (
    Screen("pictures", strings.pictures.TITLE, strings.pictures.LEAD, pictures.build),
    Screen("settings", strings.settings.TITLE, strings.settings.LEAD, settings.build),
    Screen("train", strings.train.TITLE, strings.train.LEAD, train.build, train.live_parts),
    Screen("try", strings.preview.TITLE, strings.preview.LEAD, preview.build, preview.live_parts),
    Screen("library", strings.library.TITLE, strings.library.LEAD, library.build),
)


def make_page(page: Page) -> gr.Blocks:
    """Header and all screens, in one language."""
    other = "ja" if page.language == "en" else "en"
    with gr.Blocks(title="sdlora", analytics_enabled=False, fill_width=True) as blocks:
        built, live_parts = Built(), dict[str, LivePart]()
        built.add(gr.Timer(1))  # seconds; longer where many pages are open, see `adaptive_polling`
        gr.HTML(html("header", page.language, screens=SCREENS, other=other), elem_id="header")
        for number, screen in enumerate(SCREENS, 1):
            with gr.Column(elem_id=screen.anchor, elem_classes="step"):
                gr.HTML(html("heading", page.language, number=number, screen=screen))
                part = screen.build(page, built)
            built.add(part)
            live_parts |= screen.live_parts(part)
        live.build(page, built, live_parts)
        _restore_on_load(page, blocks, built)
    blocks.queue(max_size=64, default_concurrency_limit=4)
    return blocks


def _restore_on_load(page: Page, blocks: gr.Blocks, built: Built) -> None:
    gallery, form, job, try_it, shelf = (
        built[Pictures], built[Settings], built[Train].job, built[Preview], built[Library],
    )  # fmt: skip
    found = blocks.load(
        event(page, restore, form),
        [gallery.dataset_id, form.draft, job],
        [*gallery.outputs, form.preset, *form.form.fields.values(), job, *try_it.initial],
        show_progress="hidden",
    )
    found.then(lambda: gr.update(interactive=True), None, gallery.upload, show_progress="hidden", queue=False)
    found.then(**checkup.build(page, gallery, form))
    blocks.load(event(page, library.show, shelf), shelf.search, shelf.outputs, show_progress="hidden")


def restore(page: Page, form: Settings, dataset_id: Any, draft: Any, job: Any) -> list[Any]:
    """What this browser worked on, else what any browser did."""
    job_id = train.current_job(page, job)
    dataset = pictures.restore(page, dataset_id, job_id)
    return [
        *pictures.show(page, dataset, [dataset.id] if dataset else []),
        *settings.restore(page, form, draft or train.settings_of(page, job_id)),
        job_id,
        *preview.initialise(page, job_id, ""),
    ]
