"""LoRAs made of others: merged, made smaller, converted, or the difference of two base models. Each by a process of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.components import Component
from markupsafe import Markup

from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.library import catalog, tasks
from sdlora.library.catalog import LibraryEntry, Origin
from sdlora.models import bases
from sdlora.web.context import Page
from sdlora.web.handlers import event
from sdlora.web.screens.settings import checked_base
from sdlora.web.strings import library_words as words
from sdlora.web.strings import words as page_words

MERGED = 4  # LoRAs that one merge takes; a merged one can be merged again
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
class Workshop:
    pickers: list[gr.Dropdown]
    tools: list[Tool]


def build(page: Page) -> Workshop:
    pickers: list[gr.Dropdown] = []
    tools = [_merge(page, pickers), _resize(page, pickers), _convert(page, pickers), _extract(page)]
    return Workshop(pickers, tools)


def connect(
    page: Page, screen: Workshop, search: gr.Textbox, shown: list[Component], show: Callable[[Any], list[Any]]
) -> None:
    """Each button starts its process; the page then shows it among what is being made."""
    for tool in screen.tools:

        def begin(page: Page, query: Any, name: Any, *values: Any, handler: Any = tool.handler) -> list[Any]:
            handler(page, *values, str(name or ""))
            return show(query)

        tool.button.click(
            event(page, begin),
            [search, tool.name, *tool.fields],
            shown,
            show_progress="hidden",
            concurrency_id="library",
            concurrency_limit=1,
        )


def _picker(page: Page, pickers: list[gr.Dropdown], element: str, label: Text = words.LORA) -> gr.Dropdown:
    field = gr.Dropdown(
        [], value=None, label=page.say(label), elem_id=element, allow_custom_value=True, min_width=180, scale=3
    )
    pickers.append(field)
    return field


def _foot(page: Page, element: str, label: Text) -> tuple[gr.Textbox, gr.Button]:
    with gr.Row(elem_classes="tools"):
        name = gr.Textbox(
            label=page.say(words.NEW_NAME), placeholder=page.say(words.NAME_EMPTY), elem_id=f"{element}-name", scale=3
        )
        return name, gr.Button(page.say(label), elem_id=f"{element}-start", scale=0, min_width=160)


def _help(page: Page, text: Text) -> None:
    gr.HTML(Markup('<p class="hint">{}</p>').format(page.say(text)))


def _merge(page: Page, pickers: list[gr.Dropdown]) -> Tool:
    with gr.Accordion(page.say(words.MERGE), open=False, elem_id="library-merge"):
        _help(page, words.MERGE_HELP)
        fields: list[Component] = []
        for n in range(MERGED):
            with gr.Row(elem_classes="lora-and-strength"):
                field = _picker(page, pickers, f"merge-lora-{n + 1}", Text(f"LoRA {n + 1}", f"LoRA {n + 1}"))
                label = page.say(page_words.STRENGTH)
                fields += [
                    field,
                    gr.Number(1.0, label=label, step=0.05, min_width=90, elem_id=f"merge-strength-{n + 1}"),
                ]
        fields.append(gr.Number(0, label=page.say(words.MERGE_RANK), step=1, elem_id="merge-rank", min_width=120))
        name, button = _foot(page, "merge", words.MAKE_MERGED)
    return Tool(fields, name, button, merge)


def _resize(page: Page, pickers: list[gr.Dropdown]) -> Tool:
    with gr.Accordion(page.say(words.RESIZE), open=False, elem_id="library-resize"):
        _help(page, words.RESIZE_HELP)
        with gr.Row():
            field = _picker(page, pickers, "resize-lora")
            by = gr.Radio(
                [(page.say(words.BY_RANK), "rank"), (page.say(words.BY_ENERGY), "energy")],
                value="rank",
                label=page.say(words.RESIZE_BY),
                elem_id="resize-by",
                min_width=240,
                scale=3,
            )
            value = gr.Number(8, label=page.say(words.RESIZE_VALUE), elem_id="resize-value", min_width=120, scale=1)
        name, button = _foot(page, "resize", words.MAKE_RESIZED)
    return Tool([field, by, value], name, button, resize)


def _convert(page: Page, pickers: list[gr.Dropdown]) -> Tool:
    with gr.Accordion(page.say(words.CONVERT), open=False, elem_id="library-convert"):
        _help(page, words.CONVERT_HELP)
        with gr.Row():
            field = _picker(page, pickers, "convert-lora")
            kind = gr.Dropdown(
                ["kohya", "diffusers", "peft"],
                value="kohya",
                label=page.say(words.FORMAT),
                elem_id="convert-to",
                filterable=False,
            )
            dtype = gr.Dropdown(
                [(page.say(words.KEEP), "keep"), "fp16", "bf16", "fp32"],
                value="keep",
                label=page.say(words.NUMBERS),
                elem_id="convert-dtype",
                filterable=False,
            )
        name, button = _foot(page, "convert", words.MAKE_CONVERTED)
    return Tool([field, kind, dtype], name, button, convert)


def _extract(page: Page) -> Tool:
    with gr.Accordion(page.say(words.EXTRACT), open=False, elem_id="library-extract"):
        _help(page, words.EXTRACT_HELP)
        names = bases.available()
        with gr.Row():
            before, after = (
                gr.Dropdown(
                    names, value=names[0], label=page.say(label), elem_id=element, filterable=False, min_width=180
                )
                for label, element in ((words.BEFORE, "extract-before"), (words.AFTER, "extract-after"))
            )
            rank = gr.Number(16, label=page.say(words.NEW_RANK), step=1, elem_id="extract-rank", min_width=100)
        name, button = _foot(page, "extract", words.MAKE_EXTRACTED)
    return Tool([before, after, rank], name, button, extract)


def merge(page: Page, *given: Any) -> LibraryEntry:
    *pairs, rank, name = given
    chosen = [(_entry(page, pairs[2 * n]), pairs[2 * n + 1]) for n in range(MERGED) if pairs[2 * n]]
    if not chosen:
        raise BadInput(words.MERGE_FEW)
    for _, strength in chosen:
        if not isinstance(strength, int | float) or not math.isfinite(strength) or not -10 <= strength <= 10:
            raise BadInput(words.MERGE_STRENGTH)
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
        raise BadInput(words.RESIZE_REFUSED)
    if by == "rank" and value != int(value):
        raise BadInput(words.RESIZE_REFUSED)
    size = ["--rank", str(int(value))] if by == "rank" else ["--energy", f"{value / 100:g}"]
    return _start(page, "resized", [entry], name, ["resize", str(entry.file), *size])


def convert(page: Page, id: Any, kind: Any, dtype: Any, name: str) -> LibraryEntry:
    entry = _entry(page, id)  # gradio lets nothing through here that the two lists do not hold
    called = name or f"{entry.name}-{kind}"
    return _start(
        page, "converted", [entry], called, ["convert", str(entry.file), "--to", str(kind), "--dtype", str(dtype)]
    )


def extract(page: Page, before: Any, after: Any, rank: Any, name: str) -> LibraryEntry:
    first, second = checked_base(before), checked_base(after)
    said = ["extract", "--base", first, "--tuned", second, "--rank", str(_rank(rank, least=1))]
    entry = catalog.new_entry(
        page.workspace, name or f"{second}-{SUFFIX['extracted']}", "extracted", (first, second), first
    )
    return tasks.start(page.workspace, replace(entry, owner=page.user.name), said)


def _start(page: Page, origin: Origin, sources: Iterable[LibraryEntry], name: str, said: list[str]) -> LibraryEntry:
    found = list(sources)
    base = next((entry.base for entry in found if entry.base), "")
    called = name.strip() or f"{found[0].name}-{SUFFIX[origin]}"
    entry = catalog.new_entry(page.workspace, called, origin, tuple(e.name for e in found), base)
    return tasks.start(page.workspace, replace(entry, owner=page.user.name), said)


def _entry(page: Page, id: Any) -> LibraryEntry:
    if not id:
        raise BadInput(words.CHOOSE_FIRST)
    return catalog.get_entry(page.workspace, str(id), page.user)


def _rank(value: Any, least: int) -> int:
    if (
        not isinstance(value, int | float)
        or not math.isfinite(value)
        or value != int(value)
        or not least <= value <= 1024
    ):
        raise BadInput(words.RANK_REFUSED.fill(least=least))
    return int(value)
