"""Templates: every text is escaped, a missing value raises, and all of them compile."""

from __future__ import annotations

import re

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from sdlora.core.text import Text
from sdlora.web.views.render import TEMPLATES, _environment, html

HOSTILE = "<img src=x onerror=alert(1)> \"' {{ 7 * 7 }}"


def test_text_is_escaped_and_markup_is_not() -> None:
    made = html("hint", "en", text=Text(HOSTILE, HOSTILE))
    assert "<img" not in made
    assert "&lt;img" in made
    assert "{{ 7 * 7 }}" in made  # data is no template
    assert html("loss", "ja", chart=Markup("<svg></svg>")).count("<svg></svg>") == 1


def test_a_value_that_is_missing_raises() -> None:
    with pytest.raises(UndefinedError):
        html("hint", "en")


def test_the_language_is_the_pages() -> None:
    text = Text("{n} discs", "{n} 枚の円")
    assert html("hint", "ja", text=text.fill(n=3)) == '<p class="hint">3 枚の円</p>'


@pytest.mark.parametrize("name", sorted(path.name for path in TEMPLATES.glob("*.html")))
def test_every_template_compiles_and_keeps_tags_on_one_line(name: str) -> None:
    """Line breaks are no part of the HTML, so a tag with one in it would lose the space between two attributes."""
    assert _environment().get_template(name)
    for line in re.sub(r"\{[{%#].*?[}%#]\}", "", (TEMPLATES / name).read_text()).splitlines():
        assert line.count("<") == line.count(">"), line
