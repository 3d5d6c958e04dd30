"""Jinja2 templates to HTML: values travel by name, and every text is escaped that is not `Markup` already."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from markupsafe import Markup

from sdlora.core.text import Language, Text
from sdlora.web import strings
from sdlora.web.views import numbers

TEMPLATES = Path(__file__).parent / "templates"


def html(template: str, language: Language, **values: object) -> Markup:
    """Render `templates/<template>.html` with these values.

    Templates also know `say(text, **values)`, a `Text` in the language; `strings`; and the filter `bytes`, a size as text.
    A name that is missing raises.
    """

    def say(text: Text, **filling: object) -> str:
        return text.fill(**filling).say(language) if filling else text.say(language)

    return Markup(_environment().get_template(f"{template}.html").render(say=say, language=language, **values))


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        extensions=[JoinLines],
    )
    environment.globals["strings"] = strings
    environment.filters["bytes"] = numbers.size
    return environment


class JoinLines(Extension):
    """Line breaks and indentation of a template are for its reader: white space in HTML shows. A tag stands on one line."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        return re.sub(r"\s*\n\s*", "", source)
