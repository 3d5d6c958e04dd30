"""Tools of the Library: merge, resize, convert, extract. Each runs in a process of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.components import Component

from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.library import catalog, tasks
from sdlora.library.catalog import LibraryEntry, Origin
from sdlora.models import bases
from sdlora.web import strings
from sdlora.web.context import Page
from sdlora.web.handlers import event
from sdlora.web.screens.settings import checked_base
from sdlora.web.views import notices

MAX_MERGED = 4  # LoRAs that one merge takes; a merged one can be merged again
SUFFIX: dict[Origin, str] = {
    "merged": "merged",
    "resized": "small",
    "converted": "converted",
    "extracted": "difference",
}


@dataclass(frozen=True)
class Tool:
    """One way to make a LoRA: its fields in the order of the handler's arguments, after them the name, and the button."""

    fields: list[Component]
    name: gr.Textbox
    button: gr.Button
    handler: Callable[..., LibraryEntry]


@dataclass(frozen=True)
class LibraryTools:
    pickers: list[gr.Dropdown]
    tools: list[Tool]


def build(page: Page) -> LibraryTools:
    pickers: list[gr.Dropdown] = []
    tools = [_merge(page, pickers), _resize(page, pickers), _convert(page, pickers), _extract(page)]
    return LibraryTools(pickers, tools)


def connect(
    page: Page, screen: LibraryTools, search: gr.Textbox, outputs: list[Component], show: Callable[[Any], list[Any]]
) -> None:
    """Each button starts its process, which the page then shows among the running tasks."""
    for tool in screen.tools:

        def begin(page: Page, query: Any, name: Any, *values: Any, handler: Any = tool.handler) -> list[Any]:
            handler(page, *values, str(name or ""))
            return show(query)

        tool.button.click(
            event(page, begin),
            [search, tool.name, *tool.fields],
            outputs,
            show_progress="hidden",
            concurrency_id="library",
            concurrency_limit=1,
        )


def _picker(page: Page, pickers: list[gr.Dropdown], element: str, label: Text = strings.library.LORA) -> gr.Dropdown:
    field = gr.Dropdown(
        [], value=None, label=page.say(label), elem_id=element, allow_custom_value=True, min_width=180, scale=3
    )
    pickers.append(field)
    return field


def _foot(page: Page, element: str, label: Text) -> tuple[gr.Textbox, gr.Button]:
    with gr.Row(elem_classes="tools"):
        name = gr.Textbox(
            label=page.say(strings.library.NEW_NAME),
            placeholder=page.say(strings.library.NAME_EMPTY),
            elem_id=f"{element}-name",
            scale=3,
        )
        return name, gr.Button(page.say(label), elem_id=f"{element}-start", scale=0, min_width=160)


def _help(page: Page, text: Text) -> None:
    gr.HTML(notices.hint(page, text))


def _merge(page: Page, pickers: list[gr.Dropdown]) -> Tool:
    with gr.Accordion(page.say(strings.library.MERGE), open=False, elem_id="library-merge"):
        _help(page, strings.library.MERGE_HELP)
        fields: list[Component] = []
        for n in range(MAX_MERGED):
            with gr.Row(elem_classes="lora-and-strength"):
                field = _picker(page, pickers, f"merge-lora-{n + 1}", Text(f"LoRA {n + 1}", f"LoRA {n + 1}"))
                label = page.say(strings.preview.STRENGTH)
                fields += [
                    field,
                    gr.Number(1.0, label=label, step=0.05, min_width=90, elem_id=f"merge-strength-{n + 1}"),
                ]
        fields.append(
            gr.Number(0, label=page.say(strings.library.MERGE_RANK), step=1, elem_id="merge-rank", min_width=120)
        )
        name, button = _foot(page, "merge", strings.library.MAKE_MERGED)
    return Tool(fields, name, button, merge)


def _resize(page: Page, pickers: list[gr.Dropdown]) -> Tool:
    with gr.Accordion(page.say(strings.library.RESIZE), open=False, elem_id="library-resize"):
        _help(page, strings.library.RESIZE_HELP)
        with gr.Row():
            field = _picker(page, pickers, "resize-lora")
            by = gr.Radio(
                [(page.say(strings.library.BY_RANK), "rank"), (page.say(strings.library.BY_ENERGY), "energy")],
                value="rank",
                label=page.say(strings.library.RESIZE_BY),
                elem_id="resize-by",
                min_width=240,
                scale=3,
            )
            value = gr.Number(
                8, label=page.say(strings.library.RESIZE_VALUE), elem_id="resize-value", min_width=120, scale=1
            )
        name, button = _foot(page, "resize", strings.library.MAKE_RESIZED)
    return Tool([field, by, value], name, button, resize)


def _convert(page: Page, pickers: list[gr.Dropdown]) -> Tool:
    with gr.Accordion(page.say(strings.library.CONVERT), open=False, elem_id="library-convert"):
        _help(page, strings.library.CONVERT_HELP)
        with gr.Row():
            field = _picker(page, pickers, "convert-lora")
            kind = gr.Dropdown(
                ["kohya", "diffusers", "peft"],
                value="kohya",
                label=page.say(strings.library.FORMAT),
                elem_id="convert-to",
                filterable=False,
            )
            dtype = gr.Dropdown(
                [(page.say(strings.library.KEEP), "keep"), "fp16", "bf16", "fp32"],
                value="keep",
                label=page.say(strings.library.NUMBERS),
                elem_id="convert-dtype",
                filterable=False,
            )
        name, button = _foot(page, "convert", strings.library.MAKE_CONVERTED)
    return Tool([field, kind, dtype], name, button, convert)


def _extract(page: Page) -> Tool:
    with gr.Accordion(page.say(strings.library.EXTRACT), open=False, elem_id="library-extract"):
        _help(page, strings.library.EXTRACT_HELP)
        names = bases.available()
        with gr.Row():
            before, after = (
                gr.Dropdown(
                    names, value=names[0], label=page.say(label), elem_id=element, filterable=False, min_width=180
                )
                for label, element in (
                    (strings.library.BEFORE, "extract-before"),
                    (strings.library.AFTER, "extract-after"),
                )
            )
            rank = gr.Number(
                16, label=page.say(strings.library.NEW_RANK), step=1, elem_id="extract-rank", min_width=100
            )
        name, button = _foot(page, "extract", strings.library.MAKE_EXTRACTED)
    return Tool([before, after, rank], name, button, extract)


def merge(page: Page, *values: Any) -> LibraryEntry:
    *pairs, rank, name = values
    chosen = [(_entry(page, pairs[2 * n]), pairs[2 * n + 1]) for n in range(MAX_MERGED) if pairs[2 * n]]
    if not chosen:
        raise BadInput(strings.library.MERGE_FEW)
    for _, strength in chosen:
        if not isinstance(strength, int | float) or not math.isfinite(strength) or not -10 <= strength <= 10:
            raise BadInput(strings.library.MERGE_STRENGTH)
    files = [f"{entry.file}:{strength:g}" for entry, strength in chosen]
    sources = [entry for entry, _ in chosen]
    return _start(page, "merged", sources, name, ["merge", *files, "--rank", str(_rank(rank, least=0))])


def resize(page: Page, id: Any, by: Any, value: Any, name: str) -> LibraryEntry:
    entry = _entry(page, id)
    if (
        not isinstance(value, int | float)
        or not math.isfinite(value)
        or not 0 < value <= (1024 if by == "rank" else 100)
    ):
        raise BadInput(strings.library.RESIZE_REFUSED)
    if by == "rank" and value != int(value):
        raise BadInput(strings.library.RESIZE_REFUSED)
    size = ["--rank", str(int(value))] if by == "rank" else ["--energy", f"{value / 100:g}"]
    return _start(page, "resized", [entry], name, ["resize", str(entry.file), *size])


def convert(page: Page, id: Any, kind: Any, dtype: Any, name: str) -> LibraryEntry:
    entry = _entry(page, id)  # gradio lets nothing through here that the two lists do not hold
    file_name = name or f"{entry.name}-{kind}"
    return _start(
        page, "converted", [entry], file_name, ["convert", str(entry.file), "--to", str(kind), "--dtype", str(dtype)]
    )


def extract(page: Page, before: Any, after: Any, rank: Any, name: str) -> LibraryEntry:
    first, second = checked_base(before), checked_base(after)
    arguments = ["extract", "--base", first, "--tuned", second, "--rank", str(_rank(rank, least=1))]
    entry = catalog.new_entry(
        page.workspace, name or f"{second}-{SUFFIX['extracted']}", "extracted", (first, second), first
    )
    return tasks.start(page.workspace, replace(entry, owner=page.user.name), arguments)


def _start(
    page: Page, origin: Origin, sources: Iterable[LibraryEntry], name: str, arguments: list[str]
) -> LibraryEntry:
    found = list(sources)
    base = next((entry.base for entry in found if entry.base), "")
    file_name = name.strip() or f"{found[0].name}-{SUFFIX[origin]}"
    entry = catalog.new_entry(page.workspace, file_name, origin, tuple(e.name for e in found), base)
    return tasks.start(page.workspace, replace(entry, owner=page.user.name), arguments)


def _entry(page: Page, id: Any) -> LibraryEntry:
    if not id:
        raise BadInput(strings.library.CHOOSE_FIRST)
    return catalog.get_entry(page.workspace, str(id), page.user)


def _rank(value: Any, least: int) -> int:
    if (
        not isinstance(value, int | float)
        or not math.isfinite(value)
        or value != int(value)
        or not least <= value <= 1024
    ):
        raise BadInput(strings.library.RANK_REFUSED.fill(least=least))
    return int(value)
