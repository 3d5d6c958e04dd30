"""Every string of the page exists in both languages, asks for the same values, and is used."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from sdlora.core.text import Text
from sdlora.jobs.runner import Status
from sdlora.web import strings

JAPANESE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
MODULES = [getattr(strings, name) for name in strings.__all__]
SHARED = {
    "header.OTHER_LANGUAGE",
    "header.OTHER_LANGUAGE_HINT",
    "train.RUNS_ON",
    "preview.DOWNLOAD_NAME",
    *(f"library.{name}" for name in ("ZIP", "LORA", "DETAIL[sha256]")),
}  # no words, or the other language's on purpose


def names() -> Iterator[tuple[str, object]]:
    """`pictures.TITLE` and its value, for every string and every table of strings."""
    for module in MODULES:
        short = module.__name__.rpartition(".")[2]
        yield from ((f"{short}.{name}", value) for name, value in vars(module).items() if name.isupper())


def every() -> Iterator[tuple[str, Text]]:
    for name, value in names():
        if isinstance(value, Text):
            yield name, value
        elif isinstance(value, dict):
            yield from ((f"{name}[{key}]", text) for key, text in value.items())
    for term, meaning in strings.glossary.ENTRIES:
        yield from ((term.en, term), (f"{term.en}:", meaning))


@pytest.mark.parametrize(("name", "text"), list(every()))
def test_both_languages_say_it(name: str, text: Text) -> None:
    fields = [{field for _, field, _, _ in string.Formatter().parse(one) if field} for one in (text.en, text.ja)]
    assert fields[0] == fields[1]
    if name not in SHARED:
        assert JAPANESE.search(text.ja)
        assert not JAPANESE.search(text.en)


def test_no_string_is_left_over() -> None:
    folder = Path(strings.__file__).parent
    files = [path for path in folder.parent.rglob("*") if path.suffix in (".py", ".html") and path.parent != folder]
    source = "\n".join(path.read_text() for path in files)
    for short in strings.__all__:  # a function may call the strings of its screen `own`
        for path in files:
            if f"own = strings.{short}\n" in path.read_text():
                source += re.sub(r"\bown\.", f"strings.{short}.", path.read_text())
    unused = [name for name, _ in names() if not re.search(rf"\bstrings\.{re.escape(name)}\b", source)]
    assert not unused


def test_every_status_has_a_string() -> None:
    assert set(strings.train.STATUS) == set(get_args(Status))
