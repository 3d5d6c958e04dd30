"""The doctor's view of the current data set: asked again when the pictures, the base or the resolution change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from sdlora import data
from sdlora.core.errors import BadInput, BaseUnusable
from sdlora.models import bases
from sdlora.web.context import Page
from sdlora.web.handlers import event
from sdlora.web.screens.pictures import Pictures
from sdlora.web.screens.pictures import find as find_dataset
from sdlora.web.screens.settings import Settings, checked_base
from sdlora.web.views import gallery

LOOKS = 100_000  # remembered: some 40 MB
Ask = dict[str, Any]  # how an event of gradio asks the doctor


def build(page: Page, pictures: Pictures, settings: Settings) -> Ask:
    """Connect it; returns how to ask once more, for the page that was just opened."""
    base, resolution = (settings.form.fields[path] for path in ("model.base", "train.resolution"))
    ask: Ask = {
        "fn": event(page, examine),
        "inputs": [*pictures.current, base, resolution],
        "outputs": pictures.doctor,
        "show_progress": "hidden",
        "concurrency_limit": 2,
    }
    changes: list[Callable[..., Any]] = [c.change for c in (pictures.remembered, base, resolution)]  # type: ignore[attr-defined]
    gr.on(changes, **ask, trigger_mode="always_last")
    return ask


def examine(page: Page, history: list[str], remembered: Any, base: Any, resolution: Any) -> Any:
    """It looks at every new picture, which takes up to 0.1 s each: it runs behind, when the gallery is already there."""
    if not history and not remembered:
        return ""
    dataset = find_dataset(page, history, remembered)
    if len(page.site.image_stats) > LOOKS:
        page.site.image_stats.clear()
    return gallery.findings(page, data.check(dataset, _pixels(base, resolution), page.site.image_stats))


def _pixels(base: Any, resolution: Any) -> int | None:
    """The side of the training pictures: as set, else the base's own; None where that is not known."""
    if isinstance(resolution, int | float) and 0 < resolution < 1e4:
        return int(resolution)
    try:
        facts = bases.facts(bases.resolve_base(checked_base(base)))
    except (BaseUnusable, BadInput):
        return None
    return facts.resolution if facts else None
