"""The small pieces that every screen has: an empty place, a hint, a refusal."""

from __future__ import annotations

from markupsafe import Markup

from sdlora.core.text import Text
from sdlora.web.context import Page
from sdlora.web.views.render import html


def empty(page: Page, title: Text, hint: Text) -> Markup:
    """For an empty place: what will be there, and what to do for it."""
    return html("empty", page.language, title=title, hint=hint)


def hint(page: Page, text: Text) -> Markup:
    return html("hint", page.language, text=text)


def problem(page: Page, text: Text, field: str = "") -> Markup:
    """`field`: element id of the field with the wrong value, which is marked as long as the problem stands here."""
    return html("problem", page.language, text=text, field=field)
