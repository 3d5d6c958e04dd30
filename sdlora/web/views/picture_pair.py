"""Two pictures side by side while they are drawn, and the checks of what is asked of them: for steps 4 and 5."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from markupsafe import Markup

from sdlora import config
from sdlora.core.errors import BadInput
from sdlora.processes.protocol import PreviewRequest
from sdlora.web.context import Page
from sdlora.web.form import named, typed
from sdlora.web.previews import Cancelled, Drawing, Drawn
from sdlora.web.strings import words

MAX_STRENGTH = 1.5
MAX_PROMPT = 2000


def draw_pair(page: Page, owner: str, requests: Sequence[PreviewRequest], labels: Sequence[str]) -> Iterator[Any]:
    """Both pictures, step by step. What the same owner waits for already is given up; so is this one, by the next call."""
    page.site.previews.supersede(owner)
    views = [Markup("")] * len(requests)
    try:
        for place, request in enumerate(requests):
            for news in page.site.previews.draw(owner, request):
                views[place] = _news(page, news)
                yield _pair(views, labels)
    except Cancelled:
        yield gr.skip()  # the newer request draws now; without this, gradio would send the last view once more


def _news(page: Page, news: Drawing | Drawn) -> Markup:
    if isinstance(news, Drawn):
        return Markup('<img src="{}" alt="">').format(page.site.media.picture(news.file))
    if news.steps == 0:
        return Markup('<div class="drawing"><span>{}</span></div>').format(page.say(words.WAITING_TO_DRAW))
    return Markup('<div class="drawing"><i style="width:{:.0f}%"></i><span>{}</span></div>').format(
        100 * news.step / news.steps, page.say(words.DRAWING, step=news.step, steps=news.steps)
    )


def _pair(views: Sequence[Markup], labels: Sequence[str]) -> Markup:
    waiting = Markup('<div class="drawing"></div>')
    figures = (
        Markup('<figure class="{}">{}<figcaption>{}</figcaption></figure>').format(place, view or waiting, label)
        for view, place, label in zip(views, ("base", "lora"), labels, strict=True)
    )
    return Markup('<div class="pair" aria-live="polite">{}</div>').format(Markup("").join(figures))


def checked_strength(value: Any) -> float:
    """Raises BadInput unless it is a number that the slider has."""
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= MAX_STRENGTH:
        raise BadInput(words.STRENGTH_REFUSED.fill(maximum=MAX_STRENGTH))
    return round(float(value), 2)


def checked_prompt(value: Any) -> str:
    prompt = str(value or "").strip()
    if len(prompt) > MAX_PROMPT:
        raise BadInput(words.PROMPT_REFUSED.fill(maximum=MAX_PROMPT))
    return prompt


def checked_numbers(values: dict[str, Any]) -> config.Config:
    """Raises BadInput for a number that the setting of this path refuses."""
    by_path = {s.path: s for s in config.settings()}
    try:
        return config.from_values({path: typed(by_path[path], value) for path, value in values.items()})
    except BadInput as error:
        raise BadInput(named(error.text)) from None
