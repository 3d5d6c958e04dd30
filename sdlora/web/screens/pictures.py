"""Screen 1, Pictures: import, gallery, captions, undo. Data sets are immutable: each edit makes another one."""

from __future__ import annotations

import contextlib
from abc import ABCMeta
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
from sdlora.web import strings, theme
from sdlora.web.context import STORAGE_KEY, Page
from sdlora.web.form import field
from sdlora.web.handlers import event
from sdlora.web.screens.screen import Built
from sdlora.web.views import gallery

EDITS = "edits"  # concurrency id: one edit at a time, in order, since each starts from the one before
MAX_UNDO = 50


@dataclass(frozen=True)
class Pictures:
    """The components that other screens read, and those that show a data set."""

    dataset_id: gr.BrowserState  # id of the current data set: survives a reload and a restart of the server
    history: gr.State  # ids, the current one last; what undo goes back along
    upload: gr.File
    trigger: Component
    cards: gr.HTML
    report: gr.HTML
    earlier: gr.HTML
    undo: gr.Button
    doctor: gr.HTML

    @property
    def outputs(self) -> list[Component]:
        return [self.dataset_id, self.history, self.cards, self.report, self.earlier, self.undo]

    @property
    def current(self) -> list[Component]:
        return [self.history, self.dataset_id]


def build(page: Page, built: Built) -> Pictures:
    dataset_id = gr.BrowserState("", storage_key=f"{STORAGE_KEY}-dataset", secret=STORAGE_KEY)
    history = gr.State([])
    upload = _upload_class()(
        label=page.say(strings.pictures.UPLOAD),
        file_count="multiple",
        elem_id="upload",
        height=150,
        show_label=False,
        buttons=[],
        interactive=False,  # until the page has restored its data set: that would replace one dropped before
    )
    cards = gr.HTML(
        gallery.gallery(page, None),
        elem_id="dataset-gallery",
        js_on_load=theme.actions("change_caption", "remove", "take_example", "turn_page", "undo_last"),
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            trigger = field(page, "data.trigger", "")
        with gr.Column(scale=3, min_width=300):
            report = gr.HTML("")
            doctor = gr.HTML("", elem_id="doctor")
    with gr.Accordion(page.say(strings.pictures.CAPTIONS), open=False, elem_id="captions"):
        tools = _caption_tools(page)
    with gr.Accordion(page.say(strings.pictures.EARLIER), open=False):
        earlier = gr.HTML("", elem_id="earlier", js_on_load=theme.actions("open_dataset"))
    screen = Pictures(dataset_id, history, upload, trigger, cards, report, earlier, tools.undo, doctor)
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
        text = gr.Textbox(label=page.say(strings.pictures.CAPTION_WORDS), elem_id="caption-text", scale=3)
        prefix, suffix = (
            button(strings.pictures.PREFIX, "caption-prefix"),
            button(strings.pictures.SUFFIX, "caption-suffix"),
        )
    with gr.Row(elem_classes="tools"):
        find = gr.Textbox(label=page.say(strings.pictures.FIND), elem_id="caption-find", scale=2)
        by = gr.Textbox(label=page.say(strings.pictures.REPLACE_BY), elem_id="caption-by", scale=2)
        replace = button(strings.pictures.REPLACE, "caption-replace")
    undo = gr.Button(page.say(strings.pictures.UNDO), elem_id="caption-undo", interactive=False, size="sm", scale=0)
    return CaptionTools(text, prefix, suffix, find, by, replace, undo)


def _upload_class() -> type[gr.File]:
    """gradio's file field, but with what files are called on the person's disk.

    gradio drops `?`, `!` and other letters from the paths that it hands on, so that captions would land on other pictures
    (gradio#11983). Made past gradio's metaclass, which writes a stub file beside the source of every subclass.
    """

    def preprocess(field: gr.File, payload: Any) -> list[data.Upload] | None:
        return payload and [data.Upload(Path(file.path), file.orig_name or Path(file.path).name) for file in payload]

    attributes = {"preprocess": preprocess, "__module__": gr.File.__module__}
    return ABCMeta.__new__(type(gr.File), "File", (gr.File,), attributes)


def _connect(page: Page, screen: Pictures, tools: CaptionTools) -> None:
    current, upload = screen.current, screen.upload

    def edit(trigger: Callable[..., Any], handler: Callable[..., Any], extra: Sequence[Component] = ()) -> None:
        trigger(
            event(page, handler),
            [*current, *extra],
            screen.outputs,
            show_progress="hidden",
            trigger_mode="multiple",
            concurrency_id=EDITS,
            concurrency_limit=1,
        )

    upload.upload(
        event(page, import_upload), upload, screen.outputs, show_progress_on=upload, concurrency_id=EDITS
    ).then(lambda: None, None, upload, show_progress="hidden")
    edit(screen.cards.change_caption, change_caption)
    edit(screen.cards.remove, remove)
    edit(screen.cards.take_example, take_example)
    edit(screen.cards.undo_last, undo_last)
    edit(screen.earlier.open_dataset, open_dataset)
    edit(tools.prefix.click, add_prefix, [tools.text])
    edit(tools.suffix.click, add_suffix, [tools.text])
    edit(tools.replace.click, find_and_replace, [tools.find, tools.by])
    edit(tools.undo.click, undo_last)
    screen.cards.turn_page(event(page, turn_page), current, screen.cards, show_progress="hidden")


def show(page: Page, dataset: Dataset | None, history: list[str], removed: str = "") -> list[Any]:
    """Values for `Pictures.outputs`. `removed`: name of the picture that the last edit left out."""
    current = dataset.id if dataset else ""
    if dataset:
        ownership.claim(page.workspace, page.user, dataset.id)
    steps = len(history) - 1
    undo = page.say(strings.pictures.UNDO_COUNT, count=steps) if steps > 0 else page.say(strings.pictures.UNDO)
    return [
        current,
        history[-MAX_UNDO:],
        gallery.gallery(page, dataset, removed=removed),
        gallery.import_report(page, dataset),
        gallery.earlier_datasets(page, own_datasets(page), current),
        gr.update(value=undo, interactive=steps > 0),
    ]


def find(page: Page, history: list[str], dataset_id: Any) -> Dataset:
    """The current data set. The server's history comes first: it has edits that are still on their way to the browser.

    Raises:
        BadInput: there is none yet, or it was deleted.
    """
    id = history[-1] if history else dataset_id
    if not isinstance(id, str) or not id:
        raise BadInput(strings.pictures.NO_PICTURES)
    if not ownership.has_claimed(page.workspace, page.user, checked_id(id)):
        raise BadInput(strings.pictures.NO_PICTURES)
    return page.site.open_dataset(page.workspace.dataset(id))


def import_upload(page: Page, files: list[data.Upload] | None, progress: gr.Progress = gr.Progress()) -> list[Any]:  # noqa: B008 (gradio's way)
    """Import an upload as a data set; the uploaded files are deleted in any case."""
    sources = files or []

    def report(done: int, total: int) -> None:
        progress((done, total), desc=page.say(strings.pictures.READING, done=done, total=total))

    try:
        dataset = data.import_pictures(sources, page.workspace.datasets, progress=report)
    finally:
        for source in sources:
            with contextlib.suppress(OSError):
                source.path.unlink()
                source.path.parent.rmdir()  # gradio makes one for each file
    return show(page, dataset, [dataset.id])


def take_example(page: Page, history: list[str], dataset_id: str) -> list[Any]:
    """Import the pictures that come with the app."""
    dataset = data.import_pictures([bases.EXAMPLE], page.workspace.datasets, gallery.EXAMPLE)
    return show(page, dataset, [dataset.id])


def change_caption(page: Page, history: list[str], dataset_id: str, action: gr.EventData) -> list[Any]:
    """Save one caption from its card. The gallery is not sent again: the cursor would be lost."""
    before = find(page, history, dataset_id)
    index = _index(before, action)
    after = data.with_captions(before, {index: str(action.text)}, page.workspace.datasets)
    outputs = show(page, after, _extended(before, after, history))
    outputs[2] = gr.skip()
    return outputs


def remove(page: Page, history: list[str], dataset_id: str, action: gr.EventData) -> list[Any]:
    before = find(page, history, dataset_id)
    index = _index(before, action)
    after = data.without_items(before, [index], page.workspace.datasets)
    return show(page, after, _extended(before, after, history), removed=before.items[index].name)


def _index(dataset: Dataset, action: gr.EventData) -> int:
    """The index of a card, checked against the picture it showed: the list may have changed meanwhile."""
    fields = action._data if isinstance(action._data, dict) else {}
    number, picture = str(fields.get("index")), fields.get("picture")
    if not number.isascii() or not number.isdigit() or int(number) >= len(dataset.items):
        raise BadInput(strings.pictures.OUTDATED)
    if dataset.items[int(number)].sha256 != picture:
        raise BadInput(strings.pictures.OUTDATED)
    return int(number)


def _extended(before: Dataset, after: Dataset, history: list[str]) -> list[str]:
    """The history with this edit, unless it changed nothing."""
    past = history or [before.id]
    return past if after.id == before.id else [*past, after.id]


def add_prefix(page: Page, history: list[str], dataset_id: str, text: str) -> list[Any]:
    return _all_captions(page, history, dataset_id, lambda captions: data.add_prefix(captions, text))


def add_suffix(page: Page, history: list[str], dataset_id: str, text: str) -> list[Any]:
    return _all_captions(page, history, dataset_id, lambda captions: data.add_suffix(captions, text))


def find_and_replace(page: Page, history: list[str], dataset_id: str, wanted: str, by: str) -> list[Any]:
    return _all_captions(page, history, dataset_id, lambda captions: data.replace(captions, wanted, by))


def _all_captions(
    page: Page, history: list[str], dataset_id: str, change: Callable[[Sequence[str]], list[str]]
) -> list[Any]:
    before = find(page, history, dataset_id)
    old = [item.caption for item in before.items]
    changed = {i: new for i, (was, new) in enumerate(zip(old, change(old), strict=True)) if new != was}
    if not changed:
        raise BadInput(strings.pictures.NOTHING_CHANGED)
    after = data.with_captions(before, changed, page.workspace.datasets)
    return show(page, after, _extended(before, after, history))


def undo_last(page: Page, history: list[str], dataset_id: str) -> list[Any]:
    if len(history) < 2:
        raise BadInput(strings.pictures.NOTHING_TO_UNDO)
    return show(page, find(page, history[:-1], ""), history[:-1])


def open_dataset(page: Page, history: list[str], dataset_id: str, action: gr.EventData) -> list[Any]:
    dataset = find(page, [], action.id)
    return show(page, dataset, [dataset.id])


def turn_page(page: Page, history: list[str], dataset_id: str, action: gr.EventData) -> Any:
    first = str(action.first)
    return gallery.gallery(page, find(page, history, dataset_id), int(first) if first.isdecimal() else 0)


def restore(page: Page, dataset_id: Any, job: str) -> Dataset | None:
    """The data set of a page just opened: the one it had, else that of the shown job, else the newest."""
    wanted = [dataset_id, store.get_spec(page.workspace, job).dataset if job else ""]
    for id in wanted:
        with contextlib.suppress(BadInput):
            return find(page, [], id)
    return next(iter(own_datasets(page)), None)


def own_datasets(page: Page) -> list[Dataset]:
    """Those that this user may see, newest first."""
    found = data.list_datasets(page.workspace.datasets, page.site.open_dataset)
    return [dataset for dataset in found if ownership.has_claimed(page.workspace, page.user, dataset.id)]
