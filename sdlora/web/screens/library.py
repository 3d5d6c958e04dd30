"""Screen 5, Library: LoRAs that were trained, added and made; search, rename, compare, publish, delete, put back."""

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
from sdlora.web import strings, theme
from sdlora.web.context import Page
from sdlora.web.handlers import event, show_error
from sdlora.web.screens import compare, library_tools
from sdlora.web.screens.compare import Compare
from sdlora.web.screens.library_tools import LibraryTools
from sdlora.web.screens.screen import Built
from sdlora.web.views import library_cards

CHANGES = "library"  # concurrency id: one change at a time


@dataclass(frozen=True)
class Library:
    search: gr.Textbox
    add: gr.UploadButton
    working: gr.HTML
    shelf: gr.HTML
    deleted: gr.HTML
    fingerprint: gr.Textbox  # hidden, of what the page shows; the server cannot know which of its answers arrived last
    compare: Compare
    tools: LibraryTools

    @property
    def pickers(self) -> list[gr.Dropdown]:
        """Fields that offer LoRAs."""
        return [*self.compare.pickers, *self.tools.pickers]

    @property
    def outputs(self) -> list[Component]:
        return [self.working, self.shelf, self.deleted, *self.pickers, self.fingerprint]


def build(page: Page, built: Built) -> Library:
    with gr.Row(elem_classes="tools"):
        search = gr.Textbox(
            label=page.say(strings.library.SEARCH),
            placeholder=page.say(strings.library.SEARCH_HINT),
            elem_id="library-search",
            scale=3,
        )
        add = gr.UploadButton(
            page.say(strings.library.ADD), file_count="multiple", elem_id="library-add", scale=0, min_width=190
        )
    working = gr.HTML("", elem_id="library-working", js_on_load=theme.actions("cancel"))
    rows = gr.HTML("", elem_id="library-shelf", js_on_load=theme.actions("rename", "compare", "delete"))
    deleted = gr.HTML("", elem_id="library-deleted", js_on_load=theme.actions("put_back", "empty_trash"))
    fingerprint = gr.Textbox("", visible="hidden", elem_id="library-seen")
    screen = Library(search, add, working, rows, deleted, fingerprint, compare.build(page), library_tools.build(page))
    _connect(page, screen, built[gr.Timer])
    return screen


def _connect(page: Page, screen: Library, timer: gr.Timer) -> None:
    hidden: dict[str, Any] = {"show_progress": "hidden"}

    def change(trigger: Callable[..., Any], handler: Callable[..., Any]) -> None:
        trigger(
            event(page, handler, screen),
            screen.search,
            screen.outputs,
            trigger_mode="multiple",
            concurrency_id=CHANGES,
            concurrency_limit=1,
            **hidden,
        )

    change(screen.shelf.rename, rename)
    change(screen.shelf.delete, delete)
    change(screen.working.cancel, cancel)
    change(screen.deleted.put_back, put_back)
    change(screen.deleted.empty_trash, empty_trash)
    screen.add.upload(
        event(page, add_files, screen),
        [screen.add, screen.search],
        screen.outputs,
        show_progress_on=screen.add,
        concurrency_id=CHANGES,
    )
    screen.search.input(
        event(page, find),
        screen.search,
        [screen.shelf, screen.fingerprint],
        trigger_mode="always_last",
        concurrency_limit=4,
        **hidden,
    )
    first, second = screen.compare.pickers
    screen.shelf.compare(None, [first, second], [first, second], js=theme.read("choose_pair.js"), **hidden).then(
        event(page, compare.initialise), [first, screen.compare.prompt], screen.compare.initial, **hidden
    )
    library_tools.connect(page, screen.tools, screen.search, screen.outputs, lambda query: show(page, screen, query))
    timer.tick(
        event(page, tick, screen),
        [screen.search, screen.fingerprint],
        screen.outputs,
        queue=False,
        trigger_mode="always_last",
        **hidden,
    )


def show(page: Page, screen: Library, query: Any) -> list[Any]:
    """Values for `Library.outputs`."""
    fingerprint = _fingerprint(page, query)
    entries = _entries(page)
    ready = [e for e in entries if tasks.status(e) == "ready"]
    offered = gr.update(choices=_choices(ready))
    return [
        library_cards.running_tasks(page, entries),
        library_cards.shelf(page, ready, str(query or "")),
        library_cards.trash(page, trash.list_trash(page.workspace, page.user)),
        *[compare.offer(page, _choices(ready), index) for index in range(2)],
        *[offered for _ in screen.tools.pickers],
        fingerprint,
    ]


def _entries(page: Page) -> list[catalog.LibraryEntry]:
    return catalog.list_entries(page.workspace, page.user, page.site.job_list.jobs())


def _choices(ready: list[LibraryEntry]) -> list[tuple[str, str]]:
    return [(entry.name, entry.id) for entry in ready]


def _fingerprint(page: Page, query: Any) -> str:
    """Of the entries and the search: an answer to an older search that arrives late is corrected by the next tick."""
    return hashlib.sha256(f"{query}\n{catalog.version(page.site.job_list)}".encode()).hexdigest()[:16]


def tick(page: Page, screen: Library, query: Any, fingerprint: Any) -> list[Any]:
    """Everything when something has changed; the progress of a running task."""
    if _fingerprint(page, query) != fingerprint:
        return show(page, screen, query)
    entries = catalog.list_untrained(page.workspace, page.user)
    rest = [gr.skip()] * (len(screen.outputs) - 1)
    if any(tasks.status(entry) == "working" for entry in entries):
        return [library_cards.running_tasks(page, entries), *rest]
    return [gr.skip(), *rest]


def find(page: Page, query: Any) -> tuple[Any, str]:
    fingerprint = _fingerprint(page, query)
    ready = [e for e in _entries(page) if tasks.status(e) == "ready"]
    return library_cards.shelf(page, ready, str(query or "")), fingerprint


def add_files(page: Page, screen: Library, files: list[str] | None, query: Any) -> list[Any]:
    """Add each file that is a LoRA; each other one says why not. The uploaded files are deleted in any case."""
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


def rename(page: Page, screen: Library, query: Any, action: gr.EventData) -> list[Any]:
    try:
        catalog.rename(page.workspace, _id(action), _text(action, "text"), page.user)
    except BadInput as refusal:  # the field shows the old name again
        show_error(page, refusal)
    return show(page, screen, query)


def delete(page: Page, screen: Library, query: Any, action: gr.EventData) -> list[Any]:
    trash.delete(page.workspace, _id(action), page.user)
    return show(page, screen, query)


def put_back(page: Page, screen: Library, query: Any, action: gr.EventData) -> list[Any]:
    trash.restore(page.workspace, _id(action), page.user)
    return show(page, screen, query)


def empty_trash(page: Page, screen: Library, query: Any) -> list[Any]:
    trash.empty_trash(page.workspace, user=page.user)
    return show(page, screen, query)


def cancel(page: Page, screen: Library, query: Any, action: gr.EventData) -> list[Any]:
    tasks.cancel(page.workspace, _id(action), page.user)
    return show(page, screen, query)


def _id(action: gr.EventData) -> str:
    """The id that the browser sent; `catalog.find` checks it."""
    return _text(action, "id")


def _text(action: gr.EventData, name: str) -> str:
    fields = action._data if isinstance(action._data, dict) else {}
    return str(fields.get(name, ""))
