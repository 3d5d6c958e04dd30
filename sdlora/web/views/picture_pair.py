"""Two pictures side by side while they are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from markupsafe import Markup

from sdlora.processes.protocol import PreviewRequest
from sdlora.web.context import Page
from sdlora.web.previews import Cancelled, Drawing, Drawn
from sdlora.web.views.render import html


def draw_pair(page: Page, owner: str, requests: Sequence[PreviewRequest], labels: Sequence[str]) -> Iterator[Any]:
    """Both pictures, step by step. A newer call of the same owner cancels this one."""
    page.site.previews.supersede(owner)
    states: list[Drawing | Drawn | None] = [None] * len(requests)
    try:
        for place, request in enumerate(requests):
            for states[place] in page.site.previews.draw(owner, request):
                yield _pair(page, states, labels)
    except Cancelled:
        yield gr.skip()  # the newer request draws now; without this, gradio would send the last view once more


def _pair(page: Page, states: Sequence[Drawing | Drawn | None], labels: Sequence[str]) -> Markup:
    pictures = [_picture(page, state) for state in states]
    return html("picture_pair", page.language, figures=list(zip(("base", "lora"), pictures, labels, strict=True)))


def _picture(page: Page, state: Drawing | Drawn | None) -> dict[str, Any]:
    """For the template: a link to the picture, how far it is, or nothing yet."""
    match state:
        case Drawn(file):
            return {"link": page.site.media.picture(file)}
        case Drawing(step, steps):
            return {"link": "", "step": step, "steps": steps, "percent": f"{100 * step / max(steps, 1):.0f}"}
        case None:
            return {"link": "", "steps": None}
