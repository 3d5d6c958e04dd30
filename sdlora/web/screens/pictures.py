"""Step 1, Pictures: import, look, edit captions, undo. Data sets never change: each edit leads to another one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from sdlora import data
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.data import Dataset
from sdlora.jobs import ownership, store
from sdlora.jobs.paths import checked_id
from sdlora.models import bases
from sdlora.web import theme
from sdlora.web.context import STORAGE_KEY, Page
from sdlora.web.form import field
from sdlora.web.handlers import event
from sdlora.web.strings import words
from sdlora.web.views import gallery

EDITS = "edits"  # one edit at a time, in the order they came: each builds on the one before
UNDO_KEPT = 50


@dataclass(frozen=True)
class Pictures:
    """The components that other steps read, and those that show a data set."""

    remembered: gr.BrowserState  # id of the current data set: survives a reload and a restart of the server
    history: gr.State  # ids, the current one last; what undo goes back along
    upload: gr.File
    trigger: Component
    cards: gr.HTML
    report: gr.HTML
    earlier: gr.HTML
    undo: gr.Button
    doctor: gr.HTML

    @property
    def shown(self) -> list[Component]:
        return [self.remembered, self.history, self.cards, self.report, self.earlier, self.undo]

    @property
    def current(self) -> list[Component]:
        return [self.history, self.remembered]


def build(page: Page) -> Pictures:
    remembered = gr.BrowserState("", storage_key=f"{STORAGE_KEY}-dataset", secret=STORAGE_KEY)
    history = gr.State([])
    upload = gr.File(
        label=page.say(words.UPLOAD),
        file_count="multiple",
        elem_id="upload",
        height=150,
        show_label=False,
        buttons=[],
        interactive=False,  # until the page has found what it worked on: that would take the place of what is dropped before
    )
    cards = gr.HTML(gallery.gallery(page, None), elem_id="dataset-gallery", js_on_load=theme.ACTIONS)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            trigger = field(page, "data.trigger", "")
        with gr.Column(scale=3, min_width=300):
            report = gr.HTML("")
            doctor = gr.HTML("", elem_id="doctor")
    with gr.Accordion(page.say(words.CAPTIONS), open=False, elem_id="captions"):
        tools = _caption_tools(page)
    with gr.Accordion(page.say(words.EARLIER), open=False):
        earlier = gr.HTML("", elem_id="earlier", js_on_load=theme.ACTIONS)
    screen = Pictures(remembered, history, upload, trigger, cards, report, earlier, tools.undo, doctor)
    _connect(page, screen, tools)
    return screen


@dataclass(frozen=True)
class CaptionTools:
    """Fields and buttons that change all captions at once."""

    text: gr.Textbox
    prefix: gr.Button
    suffix: gr.Button
    find: gr.Textbox
    by: gr.Textbox
    replace: gr.Button
    undo: gr.Button


def _caption_tools(page: Page) -> CaptionTools:
    def button(text: Text, element: str) -> gr.Button:
        return gr.Button(page.say(text), elem_id=element, scale=1, min_width=150)

    with gr.Row(elem_classes="tools"):
        text = gr.Textbox(label=page.say(words.CAPTION_WORDS), elem_id="caption-text", scale=3)
        prefix, suffix = button(words.PREFIX, "caption-prefix"), button(words.SUFFIX, "caption-suffix")
    with gr.Row(elem_classes="tools"):
        find = gr.Textbox(label=page.say(words.FIND), elem_id="caption-find", scale=2)
        by = gr.Textbox(label=page.say(words.REPLACE_BY), elem_id="caption-by", scale=2)
        replace = button(words.REPLACE, "caption-replace")
    undo = gr.Button(page.say(words.UNDO), elem_id="caption-undo", interactive=False, size="sm", scale=0)
    return CaptionTools(text, prefix, suffix, find, by, replace, undo)


def _connect(page: Page, screen: Pictures, tools: CaptionTools) -> None:
    current, upload = screen.current, screen.upload

    def edit(trigger: Callable[..., Any], handler: Callable[..., Any], extra: Sequence[Component] = ()) -> None:
        trigger(
            event(page, handler),
            [*current, *extra],
            screen.shown,
            show_progress="hidden",
            trigger_mode="multiple",
            concurrency_id=EDITS,
            concurrency_limit=1,
        )

    upload.upload(event(page, take_in), upload, screen.shown, show_progress_on=upload, concurrency_id=EDITS).then(
        lambda: None, None, upload, show_progress="hidden"
    )
    edit(screen.cards.input, change_caption)
    edit(screen.cards.delete, remove)
    edit(screen.cards.example_select, take_example)
    edit(screen.earlier.select, open_earlier)
    edit(tools.prefix.click, put_in_front, [tools.text])
    edit(tools.suffix.click, put_behind, [tools.text])
    edit(tools.replace.click, find_and_replace, [tools.find, tools.by])
    edit(tools.undo.click, go_back)
    screen.cards.select(event(page, turn_page), current, screen.cards, show_progress="hidden")


def show(page: Page, dataset: Dataset | None, history: list[str]) -> list[Any]:
    """Values for `Pictures.shown`."""
    current = dataset.id if dataset else ""
    if dataset:
        ownership.claim(page.workspace, page.user, dataset.id)
    steps = len(history) - 1
    undo = page.say(words.UNDO_COUNT, count=steps) if steps > 0 else page.say(words.UNDO)
    return [
        current,
        history[-UNDO_KEPT:],
        gallery.gallery(page, dataset),
        gallery.report(page, dataset),
        gallery.earlier(page, own_datasets(page), current),
        gr.update(value=undo, interactive=steps > 0),
    ]


def find(page: Page, history: list[str], remembered: Any) -> Dataset:
    """The data set that the page works on. The server's memory comes first: it knows edits still on their way to the browser.

    Raises:
        BadInput: none yet, or not there any more.
    """
    id = history[-1] if history else remembered
    if not isinstance(id, str) or not id:
        raise BadInput(words.NO_PICTURES)
    if not ownership.has_claimed(page.workspace, page.user, checked_id(id)):
        raise BadInput(words.NO_PICTURES)
    return page.site.open_dataset(page.workspace.dataset(id))


def take_in(page: Page, files: list[str] | None, progress: gr.Progress = gr.Progress()) -> list[Any]:  # noqa: B008 (gradio's way)
    """What was dropped becomes a data set; the uploaded files are deleted in any case."""
    sources = [Path(file) for file in files or []]

    def tell(done: int, total: int) -> None:
        progress((done, total), desc=page.say(words.READING, done=done, total=total))

    try:
        dataset = data.import_pictures(sources, page.workspace.datasets, progress=tell)
    finally:
        for source in sources:
            with contextlib.suppress(OSError):
                source.unlink()
                source.parent.rmdir()  # gradio makes one for each file
    return show(page, dataset, [dataset.id])


def take_example(page: Page, history: list[str], remembered: str) -> list[Any]:
    """The pictures that come with the app, for whoever wants to see the way before looking for their own."""
    dataset = data.import_pictures([bases.EXAMPLE], page.workspace.datasets, page.say(words.EXAMPLE_NAME))
    return show(page, dataset, [dataset.id])


def change_caption(page: Page, history: list[str], remembered: str, given: gr.EventData) -> list[Any]:
    """One caption was typed into its card. The gallery is not sent again: it would take the cursor away."""
    before = find(page, history, remembered)
    index = _index(before, given)
    after = data.with_captions(before, {index: str(given.text)}, page.workspace.datasets)
    shown = show(page, after, _grown(before, after, history))
    shown[2] = gr.skip()
    return shown


def remove(page: Page, history: list[str], remembered: str, given: gr.EventData) -> list[Any]:
    before = find(page, history, remembered)
    after = data.without_items(before, [_index(before, given)], page.workspace.datasets)
    return show(page, after, _grown(before, after, history))


def _index(dataset: Dataset, given: gr.EventData) -> int:
    """The number of a card, checked against the picture it showed: the list may have moved on meanwhile."""
    fields = given._data if isinstance(given._data, dict) else {}
    number, picture = str(fields.get("index")), fields.get("picture")
    if not number.isascii() or not number.isdigit() or int(number) >= len(dataset.items):
        raise BadInput(words.OUTDATED)
    if dataset.items[int(number)].sha256 != picture:
        raise BadInput(words.OUTDATED)
    return int(number)


def _grown(before: Dataset, after: Dataset, history: list[str]) -> list[str]:
    past = history or [before.id]
    return past if after.id == before.id else [*past, after.id]


def put_in_front(page: Page, history: list[str], remembered: str, text: str) -> list[Any]:
    return _all_captions(page, history, remembered, lambda captions: data.add_prefix(captions, text))


def put_behind(page: Page, history: list[str], remembered: str, text: str) -> list[Any]:
    return _all_captions(page, history, remembered, lambda captions: data.add_suffix(captions, text))


def find_and_replace(page: Page, history: list[str], remembered: str, wanted: str, by: str) -> list[Any]:
    return _all_captions(page, history, remembered, lambda captions: data.replace(captions, wanted, by))


def _all_captions(
    page: Page, history: list[str], remembered: str, change: Callable[[Sequence[str]], list[str]]
) -> list[Any]:
    before = find(page, history, remembered)
    old = [item.caption for item in before.items]
    changed = {i: new for i, (was, new) in enumerate(zip(old, change(old), strict=True)) if new != was}
    if not changed:
        raise BadInput(words.NOTHING_CHANGED)
    after = data.with_captions(before, changed, page.workspace.datasets)
    return show(page, after, _grown(before, after, history))


def go_back(page: Page, history: list[str], remembered: str) -> list[Any]:
    if len(history) < 2:
        raise BadInput(words.NOTHING_TO_UNDO)
    return show(page, find(page, history[:-1], ""), history[:-1])


def open_earlier(page: Page, history: list[str], remembered: str, given: gr.EventData) -> list[Any]:
    dataset = find(page, [], given.id)
    return show(page, dataset, [dataset.id])


def turn_page(page: Page, history: list[str], remembered: str, given: gr.EventData) -> Any:
    first = str(given.first)
    return gallery.gallery(page, find(page, history, remembered), int(first) if first.isdecimal() else 0)


def found_again(page: Page, remembered: Any, job: str) -> Dataset | None:
    """The data set for a page just opened: the one it had, else that of the shown job, else the newest."""
    wanted = [remembered, store.get_spec(page.workspace, job).dataset if job else ""]
    for id in wanted:
        with contextlib.suppress(BadInput):
            return find(page, [], id)
    return next(iter(own_datasets(page)), None)


def own_datasets(page: Page) -> list[Dataset]:
    """Those that this user may see, newest first."""
    found = data.list_datasets(page.workspace.datasets, page.site.open_dataset)
    return [dataset for dataset in found if ownership.has_claimed(page.workspace, page.user, dataset.id)]
