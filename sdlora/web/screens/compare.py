"""Two LoRAs of the Library at the same prompt and seed, side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from sdlora import config, data
from sdlora.core.errors import BadInput, BaseUnusable
from sdlora.jobs import store
from sdlora.library import catalog
from sdlora.library.catalog import LibraryEntry
from sdlora.models import bases
from sdlora.processes.protocol import PreviewRequest
from sdlora.web import strings
from sdlora.web.context import Page
from sdlora.web.drawing_inputs import MAX_STRENGTH, MIN_STRENGTH, checked_numbers, checked_prompt, checked_strength
from sdlora.web.form import Values
from sdlora.web.handlers import event
from sdlora.web.screens.preview import number_field, roll
from sdlora.web.screens.settings import checked_base
from sdlora.web.views import notices
from sdlora.web.views.picture_pair import draw_pair


@dataclass(frozen=True)
class Compare:
    first: gr.Dropdown
    second: gr.Dropdown
    strengths: tuple[gr.Slider, gr.Slider]
    base: gr.Dropdown
    prompt: gr.Textbox
    numbers: dict[str, gr.Number]
    picture: gr.HTML

    @property
    def pickers(self) -> list[gr.Dropdown]:
        return [self.first, self.second]

    @property
    def initial(self) -> list[Component]:
        """Components that `initialise` sets from the first LoRA chosen."""
        return [self.prompt, self.numbers["sample.steps"], self.numbers["sample.guidance"]]

    @property
    def inputs(self) -> set[Component]:
        return {*self.pickers, *self.strengths, self.base, self.prompt, *self.numbers.values()}


def build(page: Page) -> Compare:
    with gr.Accordion(page.say(strings.library.COMPARE_TITLE), open=True, elem_id="library-compare"):
        gr.HTML(notices.hint(page, strings.library.COMPARE_HELP))
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                first, strength_1 = _lora(page, 0)
                second, strength_2 = _lora(page, 1)
                prompt = gr.Textbox(label=page.say(strings.preview.PROMPT), lines=2, elem_id="library-prompt")
                base = gr.Dropdown(
                    [(page.say(strings.library.BASE_AUTO), ""), *((name, name) for name in bases.available())],
                    value="",
                    label=page.say(strings.library.DETAIL["base"]),
                    elem_id="library-base",
                    filterable=False,
                )
                with gr.Row(elem_classes="seed"):
                    seed = number_field(page, "train.seed", "library-seed")
                    dice = gr.Button(page.say(strings.preview.DICE), min_width=120)
                with gr.Row():
                    steps = number_field(page, "sample.steps", "library-steps")
                    guidance = number_field(page, "sample.guidance", "library-guidance")
                draw_both = gr.Button(page.say(strings.library.DRAW_BOTH), variant="primary", elem_id="library-draw")
            with gr.Column(scale=3, min_width=320):
                picture = gr.HTML(
                    notices.empty(page, strings.library.PAIR_EMPTY, strings.library.PAIR_EMPTY_HINT),
                    elem_id="library-pair",
                )
    fields = {"train.seed": seed, "sample.steps": steps, "sample.guidance": guidance}
    screen = Compare(first, second, (strength_1, strength_2), base, prompt, fields, picture)
    drawing: dict[str, Any] = {
        "fn": event(page, draw, screen),
        "inputs": screen.inputs,
        "outputs": picture,
        "show_progress": "hidden",
        "trigger_mode": "multiple",
        "concurrency_limit": 16,
    }
    gr.on([draw_both.click, prompt.submit], **drawing)
    dice.click(event(page, roll), None, seed, show_progress="hidden").then(**drawing)
    return screen


def _lora(page: Page, index: int) -> tuple[gr.Dropdown, gr.Slider]:
    """A field for a LoRA with its strength."""
    label = (strings.library.FIRST, strings.library.SECOND)[index]
    with gr.Row(elem_classes="lora-and-strength"):
        field = gr.Dropdown(
            offered(page, [], index),
            value="",
            label=page.say(label),
            elem_id=f"library-{('first', 'second')[index]}",
            allow_custom_value=True,
            min_width=160,
            scale=3,
        )
        strength = gr.Slider(
            MIN_STRENGTH,
            MAX_STRENGTH,
            1.0,
            step=0.05,
            label=page.say(strings.preview.STRENGTH),
            buttons=[],
            min_width=120,
            scale=2,
        )
    return field, strength


def offered(page: Page, choices: list[tuple[str, str]], index: int) -> list[tuple[str, str]]:
    """The second may be the base model alone."""
    return [(page.say(strings.library.NO_LORA), ""), *choices] if index else choices


def offer(page: Page, choices: list[tuple[str, str]], index: int) -> Any:
    return gr.update(choices=offered(page, choices, index))


def initialise(page: Page, first: Any, prompt: Any) -> list[Any]:
    """Values for `Compare.initial`: prompt, steps, guidance. Once a prompt was written, all stay."""
    if not first or str(prompt or "").strip():
        return [gr.skip()] * 3
    entry = catalog.get_entry(page.workspace, str(first), page.user)
    if entry.origin == "trained":
        spec = store.get_spec(page.workspace, entry.id)
        item = data.open_dataset(page.workspace.job(entry.id).dataset).items[0]
        return _initial_values(spec.caption(item), spec.settings)
    header = page.site.headers.inspect(entry.file)
    trigger = header.metadata.get("modelspec.trigger_phrase", "") if header else ""
    return _initial_values(trigger, config.resolve(base=_base(page, "", [entry])))


def _initial_values(prompt: str, settings: config.Config) -> list[Any]:
    return [prompt, settings.sample.steps, settings.sample.guidance]


def draw(page: Page, screen: Compare, values: Values) -> Iterator[Any]:
    requests, labels = _requests(page, screen, values)
    yield from draw_pair(page, f"{page.session}-library", requests, labels)


def _requests(page: Page, screen: Compare, values: Values) -> tuple[list[PreviewRequest], list[str]]:
    """What to draw, checked, and what stands under it."""
    chosen = [_entry(page, values[field]) for field in screen.pickers]
    if not any(chosen):
        raise BadInput(strings.library.CHOOSE_FIRST)
    numbers = checked_numbers({path: values[field] for path, field in screen.numbers.items()})
    base, prompt = _base(page, values[screen.base], chosen), checked_prompt(values[screen.prompt])
    requests, labels = [], []
    for entry, field in zip(chosen, screen.strengths, strict=True):
        strength = checked_strength(values[field]) if entry else 0.0
        lora = entry.file if entry else None
        sample = numbers.sample
        requests.append(
            PreviewRequest(base, lora, prompt, "", numbers.train.seed, sample.steps, sample.guidance, strength)
        )
        at = (
            strings.library.AT_STRENGTH.fill(name=entry.name, strength=f"{strength:g}")
            if entry
            else strings.library.NO_LORA
        )
        labels.append(page.say(at))
    return requests, labels


def _entry(page: Page, id: Any) -> LibraryEntry | None:
    return catalog.get_entry(page.workspace, str(id), page.user) if id else None


def _base(page: Page, choice: Any, chosen: list[LibraryEntry | None]) -> str:
    """As chosen, else the one that the first of them knows, else the first on offer that is of its family."""
    if choice:
        return checked_base(choice)
    entries = [e for e in chosen if e]
    if base := next((e.base for e in entries if e.base), ""):
        return base
    facts = page.site.headers.inspect(entries[0].file)
    return _of_family(facts.family if facts else "")


def _of_family(family: str) -> str:
    """A real base of this family comes before the bundled one, which is small."""
    for name in bases.available()[1:]:
        with contextlib.suppress(BaseUnusable):
            facts = bases.facts(bases.resolve_base(name))
            if facts and facts.family == family:
                return name
    return bases.available()[0]
