"""The settings as a form, derived from `config.settings()`: adding a setting there adds its field here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from sdlora import config
from sdlora.config import Setting
from sdlora.core.environment import gpu_count
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.web import strings
from sdlora.web.context import Page

Values = Mapping[Component, Any]  # what gradio passes for a set of inputs


@dataclass(frozen=True)
class Form:
    """The fields by the path of their setting. Values travel by name: a field more shifts nothing."""

    fields: dict[str, Component]

    def read(self, values: Values) -> dict[str, Any]:
        """Flat settings as they stand in the browser; a setting without effect counts as its default.

        Types are corrected where nothing is lost, else left to `config`.
        """
        found = {s.path: coerce(s, values[self.fields[s.path]]) for s in config.settings()}
        return found | {s.path: s.default for s in config.settings() if s.path in config.inactive_settings(found)}

    @property
    def dependent(self) -> dict[str, Component]:
        """Fields that other settings can leave without effect."""
        return {path: self.fields[path] for path in dict.fromkeys(rule.path for rule in config.INACTIVE_RULES)}

    def dependent_updates(self, page: Page, values: Mapping[str, Any]) -> list[Any]:
        """For `dependent`: a field without effect is disabled and says why."""
        reasons = config.inactive_settings(values)
        info = {s.path: s.help for s in config.settings()} | {
            path: with_labels(strings.settings.NO_EFFECT.fill(why=why)) for path, why in reasons.items()
        }
        return [gr.update(interactive=path not in reasons, info=page.say(info[path])) for path in self.dependent]

    def show(self, values: Mapping[str, Any]) -> list[Any]:
        """Values in the order of `fields`; a field without one stays as it is."""
        return [values.get(path, gr.skip()) for path in self.fields]


def field(page: Page, path: str, value: Any) -> Component:
    """Place the field of one setting here."""
    setting = next(s for s in config.settings() if s.path == path)
    common: dict[str, Any] = {
        "label": page.say(setting.label),
        "info": page.say(setting.help),
        "elem_id": element_id(setting),
        "interactive": True,
        "visible": path != "train.processes" or gpu_count() > 1,
    }
    if setting.kind == "bool":
        return gr.Checkbox(value, **common)
    if setting.kind == "choice":
        return gr.Dropdown(list(setting.choices), value=value, filterable=False, **common)
    if setting.kind == "str":
        return gr.Textbox(value, lines=3 if path == "sample.prompts" else 1, max_lines=6, **common)
    # No limits here: the browser would clamp silently what shall be refused with a sentence.
    return gr.Number(value, step=1 if setting.kind == "int" else 0.00001, min_width=140, **common)


def element_id(setting: Setting) -> str:
    """`rank` for lora.rank on the first level; `train-seed` below, where names repeat."""
    return (setting.path.partition(".")[2] if setting.basic else setting.path).replace("_", "-").replace(".", "-")


def coerce(setting: Setting, value: Any) -> Any:
    """The value in the setting's type. JavaScript has one kind of number: 16.0 is the 16 of an integer setting, 3.7 is not.

    Raises:
        BadInput: an empty field for a number.
    """
    if setting.kind == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    if setting.kind == "float" and type(value) is int:
        return float(value)
    if setting.kind in ("int", "float") and value is None:
        raise BadInput(strings.settings.NO_NUMBER.fill(label=setting.label))
    return value


def with_labels(text: Text) -> Text:
    """A sentence of `config` about `lora.rank`, with the label of its field instead."""
    en, ja = text.en, text.ja
    for setting in config.settings():
        en = en.replace(f"{setting.path} ", f"“{setting.label.en}” ")
        ja = ja.replace(f"{setting.path} ", f"「{setting.label.ja}」")
    return Text(en, ja)
