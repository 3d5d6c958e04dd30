"""Every word of the page exists in both languages and asks for the same values."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from sdlora.core.text import Text
from sdlora.jobs.runner import Status
from sdlora.web.strings import library_words, words
from sdlora.web.views import glossary

JAPANESE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
SHARED = {
    "OTHER_LANGUAGE",
    "OTHER_LANGUAGE_HINT",
    "RUNS_ON",
    "DOWNLOAD_NAME",
    *(f"FAMILY[{family}]" for family in ("sd1", "sd2", "sdxl")),
    *("ZIP", "LORA", "DETAIL[sha256]"),
}  # no words, or the other language's on purpose


def every() -> Iterator[tuple[str, Text]]:
    for name, value in [*vars(words).items(), *vars(library_words).items()]:
        if isinstance(value, Text):
            yield name, value
        elif isinstance(value, dict) and name.isupper():
            yield from ((f"{name}[{key}]", text) for key, text in value.items())
    for term, meaning in glossary.ENTRIES:
        yield from ((term.en, term), (f"{term.en}:", meaning))


@pytest.mark.parametrize(("name", "text"), list(every()))
def test_both_languages_say_it(name: str, text: Text) -> None:
    fields = [{field for _, field, _, _ in string.Formatter().parse(one) if field} for one in (text.en, text.ja)]
    assert fields[0] == fields[1]
    if name not in SHARED:
        assert JAPANESE.search(text.ja)
        assert not JAPANESE.search(text.en)


def test_no_word_is_left_over() -> None:
    strings = Path(words.__file__).parent
    source = "\n".join(path.read_text() for path in strings.parent.rglob("*.py") if path.parent != strings)
    all_words = [*vars(words), *vars(library_words)]
    unused = [name for name in all_words if name.isupper() and not re.search(rf"words\.{name}\b", source)]
    assert not unused


def test_every_status_has_a_word() -> None:
    assert set(words.STATUS) == set(get_args(Status))
