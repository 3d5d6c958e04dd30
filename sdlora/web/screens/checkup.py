"""The check-up of the current data set: repeated when the pictures, the base, the resolution or the buckets change."""

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

MAX_IMAGE_STATS = 100_000  # some 40 MB
Listener = dict[str, Any]  # the arguments of a gradio event that runs the check-up


def build(page: Page, pictures: Pictures, settings: Settings) -> Listener:
    """Connect it; returns the event's arguments, for the page that was just opened."""
    base, resolution, buckets = (settings.form.fields[p] for p in ("model.base", "train.resolution", "data.buckets"))
    listener: Listener = {
        "fn": event(page, examine),
        "inputs": [*pictures.current, base, resolution, buckets],
        "outputs": pictures.doctor,
        "show_progress": "hidden",
        "concurrency_limit": 2,
    }
    changes: list[Callable[..., Any]] = [c.change for c in (pictures.dataset_id, base, resolution, buckets)]  # type: ignore[attr-defined]
    gr.on(changes, **listener, trigger_mode="always_last")
    return listener


def examine(page: Page, history: list[str], dataset_id: Any, base: Any, resolution: Any, buckets: Any) -> Any:
    """Check every new picture, up to 0.1 s each: so after the gallery is shown."""
    if not history and not dataset_id:
        return ""
    dataset = find_dataset(page, history, dataset_id)
    if len(page.site.image_stats) > MAX_IMAGE_STATS:
        page.site.image_stats.clear()
    pixels = _pixels(base, resolution)
    return gallery.findings(page, data.check(dataset, pixels, page.site.image_stats, bool(buckets)))


def _pixels(base: Any, resolution: Any) -> int | None:
    """The side of the training pictures: as set, else the base's own; None where that is not known."""
    if isinstance(resolution, int | float) and 0 < resolution < 1e4:
        return int(resolution)
    try:
        facts = bases.facts(bases.resolve_base(checked_base(base)))
    except (BaseUnusable, BadInput):
        return None
    return facts.resolution if facts else None
