"""Screen 2, Settings: goal, base model, the form, and the parameters that they amount to."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from markupsafe import Markup

from sdlora import config
from sdlora.config import Config
from sdlora.core.errors import BadInput, SdloraError
from sdlora.core.text import Text
from sdlora.models import bases
from sdlora.web import strings, theme
from sdlora.web.context import STORAGE_KEY, Page
from sdlora.web.form import Form, Values, element_id, field, with_labels
from sdlora.web.handlers import event
from sdlora.web.screens.pictures import Pictures
from sdlora.web.screens.pictures import find as find_dataset
from sdlora.web.screens.screen import Built
from sdlora.web.views import notices, parameter_count
from sdlora.web.views.render import html

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
PERSONAL = ("data.trigger", "sample.prompts")  # words of the user: no preset changes them
OTHER = "*"  # any base that no preset has values of its own for


@dataclass(frozen=True)
class Settings:
    form: Form
    preset: gr.Radio
    draft: gr.BrowserState  # {"preset", "values"}: the form as it was left
    summary: gr.HTML


def build(page: Page, built: Built) -> Settings:
    pictures = built[Pictures]
    presets = config.presets()
    first_preset = next(iter(presets))
    start = config.values_of(config.resolve(first_preset))
    draft = gr.BrowserState({}, storage_key=f"{STORAGE_KEY}-draft", secret=STORAGE_KEY)
    preset = gr.Radio(
        [(f"{page.say(p.title)}\n{page.say(p.summary)}", p.name) for p in presets.values()],
        value=first_preset,
        label=page.say(strings.settings.PRESET),
        elem_id="preset",
    )
    fields: dict[str, Component] = {"data.trigger": pictures.trigger, "model.base": _base(page, start["model.base"])}
    with gr.Row(elem_classes="numbers"):
        for path in (s.path for s in config.settings() if s.basic and s.path not in fields):
            fields[path] = field(page, path, start[path])
    summary = gr.HTML(_summary(page, config.resolve(first_preset), []), elem_id="comparison")
    with gr.Accordion(page.say(strings.settings.MORE_SETTINGS), open=False, elem_id="more-settings"):
        _more(page, fields, start)
    screen = Settings(Form(fields), preset, draft, summary)
    _connect(page, screen, pictures)
    return screen


def _base(page: Page, value: str) -> gr.Dropdown:
    setting = next(s for s in config.settings() if s.path == "model.base")
    return gr.Dropdown(
        [(page.say(strings.settings.BUNDLED) if name == "emoji" else name, name) for name in bases.available()],
        value=value,
        label=page.say(setting.label),
        info=page.say(strings.settings.BASE_HELP),
        elem_id=element_id(setting),
        allow_custom_value=True,
    )


def _more(page: Page, fields: dict[str, Component], start: dict[str, Any]) -> None:
    """All other settings under the headings of their sections."""
    for section, title in config.SECTIONS.items():
        paths = [s.path for s in config.settings() if s.path.startswith(f"{section}.") and s.path not in fields]
        if paths:
            gr.HTML(html("subheading", page.language, title=title), elem_classes="heading")
            with gr.Row(elem_classes="numbers"):
                for path in paths:
                    fields[path] = field(page, path, start[path])


def _connect(page: Page, screen: Settings, pictures: Pictures) -> None:
    fields = list(screen.form.fields.values())
    base: Any = screen.form.fields["model.base"]
    # In the browser, at once: an answer of the server would come late and undo what was typed in between.
    inputs = [screen.preset, base, *fields]
    screen.preset.input(None, inputs, fields, js=preset_script(screen.form, keep_own=False))
    base.input(None, inputs, fields, js=preset_script(screen.form, keep_own=True))
    gr.on(
        [f.change for f in (*fields, *pictures.current)],  # type: ignore[attr-defined]
        event(page, summarise, screen, pictures),
        {screen.preset, *fields, *pictures.current},
        [screen.summary, screen.draft, *screen.form.dependent.values()],
        show_progress="hidden",
        trigger_mode="always_last",
        concurrency_limit=4,
    )


def preset_script(form: Form, keep_own: bool) -> str:
    """JavaScript `(preset, base, ...fields) => fields`: the preset's values for this base; what is PERSONAL stays.

    With `keep_own`, so does each field that holds none of the preset's values, whatever the base.
    """
    named_bases = {base for preset in config.presets().values() for base in preset.on}
    values = {
        name: {base: _preset_values(name, base) for base in (OTHER, *sorted(named_bases))} for name in config.presets()
    }
    arguments = ", ".join(json.dumps(value) for value in (values, list(form.fields), OTHER, keep_own))
    return f"(...inputs) => ({theme.read('fill_form.js')})({arguments})(...inputs)"


def _preset_values(preset: str, base: str) -> dict[str, Any]:
    excluded = (*PERSONAL, "model.base")
    return {path: v for path, v in config.values_of(config.resolve(preset, base)).items() if path not in excluded}


def summarise(page: Page, screen: Settings, pictures: Pictures, values: Values) -> list[Any]:
    """The parameter count, or the sentence about what is wrong; the form for a reload; updates of fields without effect."""
    updates: list[Any] = [gr.skip() for _ in screen.form.dependent]
    try:
        flat = screen.form.read(values)
        updates = screen.form.dependent_updates(page, flat)
        summary = _summary(page, parse(flat), _picture_sizes(page, pictures, values))
        return [summary, {"preset": values[screen.preset], "values": flat}, *updates]
    except SdloraError as error:
        return [notices.problem(page, with_labels(error.text), _field_of(error.text)), gr.skip(), *updates]


def _field_of(refusal: Text) -> str:
    """Element id of the field that a sentence of `config` or of the form begins with, "" for another sentence."""
    named = (s for s in config.settings() if refusal.en.startswith((f"{s.path} ", f"“{s.label.en}”")))
    return next((element_id(s) for s in named), "")


def _picture_sizes(page: Page, pictures: Pictures, values: Values) -> list[tuple[int, int]]:
    """Width and height of each picture; empty where there is no data set."""
    try:
        items = find_dataset(page, values[pictures.history], values[pictures.dataset_id]).items
    except BadInput:
        return []
    return [(item.width, item.height) for item in items]


def _summary(page: Page, settings: Config, sizes: list[tuple[int, int]]) -> Markup:
    try:
        return parameter_count.view(page, settings, sizes)
    except SdloraError as error:
        return notices.problem(page, error.text)


def parse(flat: dict[str, Any]) -> Config:
    """Settings from the browser, checked.

    Raises:
        BadInput: a value that `config` refuses, or a base that is not offered: a path on the server never comes from here.
    """
    checked_base(flat["model.base"])
    try:
        return config.from_values(flat)
    except BadInput as error:
        raise BadInput(with_labels(error.text)) from None


def checked_base(name: Any) -> str:
    """Raises BadInput unless the name is offered, or is a hub id that is no path here."""
    offered = name in bases.available()
    if not isinstance(name, str) or not (offered or (HUB_ID.fullmatch(name) and not Path(name).exists())):
        raise BadInput(strings.settings.BASE_REFUSED.fill(name=str(name)[:100]))
    return name


def restore(page: Page, screen: Settings, draft: Any) -> list[Any]:
    """The form as it was left, for `[preset, *fields]`. What an older version remembered and this one refuses is dropped."""
    try:
        values = {**draft["values"]}
        checked_base(values["model.base"])
        checked = config.values_of(config.from_values(values))
        preset = draft["preset"] if draft["preset"] in config.presets() else gr.skip()
    except (BadInput, KeyError, TypeError):
        return [gr.skip() for _ in range(1 + len(screen.form.fields))]
    return [preset, *screen.form.show(checked)]
