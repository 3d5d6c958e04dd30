"""Step 5, Library: what was trained, added and made; found, renamed, compared, published, deleted and brought back."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from sdlora.core.errors import BadInput
from sdlora.library import catalog, tasks, trash
from sdlora.library.catalog import LibraryEntry
from sdlora.web import theme
from sdlora.web.context import Page
from sdlora.web.handlers import event, show_error
from sdlora.web.screens import compare, library_tools
from sdlora.web.screens.compare import Compare
from sdlora.web.screens.library_tools import Workshop
from sdlora.web.strings import library_words
from sdlora.web.views import library_cards

CHANGES = "library"  # one change at a time


@dataclass(frozen=True)
class Library:
    search: gr.Textbox
    add: gr.UploadButton
    working: gr.HTML
    shelf: gr.HTML
    deleted: gr.HTML
    seen: (
        gr.Textbox
    )  # hidden: the stamp of what the page shows; the server cannot know which of its answers arrived last
    compare: Compare
    workshop: Workshop

    @property
    def pickers(self) -> list[gr.Dropdown]:
        """Fields that offer LoRAs."""
        return [*self.compare.pickers, *self.workshop.pickers]

    @property
    def shown(self) -> list[Component]:
        return [self.working, self.shelf, self.deleted, *self.pickers, self.seen]


def build(page: Page, timer: gr.Timer) -> Library:
    with gr.Row(elem_classes="tools"):
        search = gr.Textbox(
            label=page.say(library_words.SEARCH),
            placeholder=page.say(library_words.SEARCH_HINT),
            elem_id="library-search",
            scale=3,
        )
        add = gr.UploadButton(
            page.say(library_words.ADD), file_count="multiple", elem_id="library-add", scale=0, min_width=190
        )
    working = gr.HTML("", elem_id="library-working", js_on_load=theme.ACTIONS)
    rows = gr.HTML("", elem_id="library-shelf", js_on_load=theme.ACTIONS)
    deleted = gr.HTML("", elem_id="library-deleted", js_on_load=theme.ACTIONS)
    seen = gr.Textbox("", visible="hidden", elem_id="library-seen")
    screen = Library(search, add, working, rows, deleted, seen, compare.build(page), library_tools.build(page))
    _connect(page, screen, timer)
    return screen


def _connect(page: Page, screen: Library, timer: gr.Timer) -> None:
    hidden: dict[str, Any] = {"show_progress": "hidden"}

    def change(trigger: Callable[..., Any], handler: Callable[..., Any]) -> None:
        trigger(
            event(page, handler, screen),
            screen.search,
            screen.shown,
            trigger_mode="multiple",
            concurrency_id=CHANGES,
            concurrency_limit=1,
            **hidden,
        )

    change(screen.shelf.input, rename)
    change(screen.shelf.delete, delete)
    change(screen.working.stop, cancel)
    change(screen.deleted.undo, restore)
    change(screen.deleted.clear, empty_trash)
    screen.add.upload(
        event(page, take_in, screen),
        [screen.add, screen.search],
        screen.shown,
        show_progress_on=screen.add,
        concurrency_id=CHANGES,
    )
    screen.search.input(
        event(page, find),
        screen.search,
        [screen.shelf, screen.seen],
        trigger_mode="always_last",
        concurrency_limit=4,
        **hidden,
    )
    first, second = screen.compare.pickers
    screen.shelf.select(None, [first, second], [first, second], js=compare.PICK, **hidden).then(
        event(page, compare.begin), [first, screen.compare.prompt], screen.compare.beginning, **hidden
    )
    library_tools.connect(page, screen.workshop, screen.search, screen.shown, lambda query: show(page, screen, query))
    timer.tick(
        event(page, tick, screen),
        [screen.search, screen.seen],
        screen.shown,
        queue=False,
        trigger_mode="always_last",
        **hidden,
    )


def show(page: Page, screen: Library, query: Any) -> list[Any]:
    """Values for `Library.shown`."""
    stamp = _stamp(page, query)
    entries = _entries(page)
    ready = [e for e in entries if tasks.status(e) == "ready"]
    offered = gr.update(choices=_choices(ready))
    return [
        library_cards.workbench(page, entries),
        library_cards.shelf(page, ready, str(query or "")),
        library_cards.wastebasket(page, trash.list_trash(page.workspace, page.user)),
        *[compare.offer(page, _choices(ready), index) for index in range(2)],
        *[offered for _ in screen.workshop.pickers],
        stamp,
    ]


def _entries(page: Page) -> list[catalog.LibraryEntry]:
    return catalog.list_entries(page.workspace, page.user, page.site.job_list.jobs())


def _choices(ready: list[LibraryEntry]) -> list[tuple[str, str]]:
    return [(entry.name, entry.id) for entry in ready]


def _stamp(page: Page, query: Any) -> str:
    """The search is part of it: an answer to an older one that arrives late is put right by the next tick."""
    return hashlib.sha256(f"{query}\n{catalog.version(page.site.job_list)}".encode()).hexdigest()[:16]


def tick(page: Page, screen: Library, query: Any, seen: Any) -> list[Any]:
    """All anew when something has changed; while something is being made, how far it is."""
    if _stamp(page, query) != seen:
        return show(page, screen, query)
    entries = catalog.list_untrained(page.workspace, page.user)
    rest = [gr.skip()] * (len(screen.shown) - 1)
    if any(tasks.status(entry) == "working" for entry in entries):
        return [library_cards.workbench(page, entries), *rest]
    return [gr.skip(), *rest]


def find(page: Page, query: Any) -> tuple[Any, str]:
    stamp = _stamp(page, query)
    ready = [e for e in _entries(page) if tasks.status(e) == "ready"]
    return library_cards.shelf(page, ready, str(query or "")), stamp


def take_in(page: Page, screen: Library, files: list[str] | None, query: Any) -> list[Any]:
    """Each file that is a LoRA goes in; of the others, each says why not. What was uploaded is deleted in any case."""
    for source in map(Path, files or []):
        try:
            catalog.add_file(page.workspace, source, source.name, page.user)
        except BadInput as refusal:
            show_error(page, refusal)
        finally:
            with contextlib.suppress(OSError):
                source.unlink(missing_ok=True)
                source.parent.rmdir()  # gradio makes one for each file
    return show(page, screen, query)


def rename(page: Page, screen: Library, query: Any, given: gr.EventData) -> list[Any]:
    try:
        catalog.rename(page.workspace, _id(given), _text(given, "text"), page.user)
    except BadInput as refusal:  # the field shows the old name again
        show_error(page, refusal)
    return show(page, screen, query)


def delete(page: Page, screen: Library, query: Any, given: gr.EventData) -> list[Any]:
    trash.delete(page.workspace, _id(given), page.user)
    return show(page, screen, query)


def restore(page: Page, screen: Library, query: Any, given: gr.EventData) -> list[Any]:
    trash.restore(page.workspace, _id(given), page.user)
    return show(page, screen, query)


def empty_trash(page: Page, screen: Library, query: Any) -> list[Any]:
    trash.empty_trash(page.workspace, user=page.user)
    return show(page, screen, query)


def cancel(page: Page, screen: Library, query: Any, given: gr.EventData) -> list[Any]:
    tasks.cancel(page.workspace, _id(given), page.user)
    return show(page, screen, query)


def _id(given: gr.EventData) -> str:
    """What the browser calls an entry; `library.find` checks it."""
    return _text(given, "id")


def _text(given: gr.EventData, name: str) -> str:
    fields = given._data if isinstance(given._data, dict) else {}
    return str(fields.get(name, ""))
