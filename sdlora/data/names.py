"""File names: cleaned for display, normalised for pairing, ordered as a person counts."""

from __future__ import annotations

import re
import unicodedata

from sdlora.data.text_decoding import decode_name

MAX_LENGTH = 200
# Marks that turn the reading direction can make "gpj.exe" look like "exe.jpg".
DIRECTION_MARKS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def clean_name(raw: str) -> str:
    """A file's own name for display: NFC, no folders, no control characters, never empty, encodable as UTF-8."""
    text = exact_key(raw).replace("\\", "/").rsplit("/", 1)[-1]
    text = "".join("_" if _is_hidden(letter) else letter for letter in text).strip()
    if len(text) > MAX_LENGTH:
        stem, dot, suffix = text.rpartition(".")
        text = text[:MAX_LENGTH] if not dot or len(suffix) > 10 else stem[: MAX_LENGTH - len(suffix) - 1] + dot + suffix
    return text or "_"


def exact_key(name: str) -> str:
    """Equal for names that look the same: macOS stores NFD, other systems NFC."""
    return unicodedata.normalize("NFC", decode_name(name))


def folded_key(name: str) -> str:
    """Equal for names that a person takes for the same one: case and blanks at the ends do not count."""
    return unicodedata.normalize("NFC", exact_key(name).casefold()).strip()


def stem(name: str) -> str:
    """The name without its suffix; a name that is nothing but a suffix stays whole."""
    head, dot, _ = name.rpartition(".")
    return head if dot and head else name


def suffix(name: str) -> str:
    """In lower case with its dot; "" where there is none."""
    head, dot, tail = name.rpartition(".")
    return f".{tail.lower()}" if dot and head else ""


def natural_sort_key(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts "2.png" before "10.png". Digits are compared by length, then as text: no huge integers."""
    parts = re.split(r"([0-9]+)", folded_key(name))
    return tuple((len(part.lstrip("0")), part.lstrip("0")) if i % 2 else (0, part) for i, part in enumerate(parts))


def shorten_list(names: list[str], limit: int = 3) -> str:
    """The first names for a sentence, and how many more there are."""
    shown = ", ".join(clean_name(name) for name in names[:limit])
    return f"{shown}, … (+{len(names) - limit})" if len(names) > limit else shown


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in DIRECTION_MARKS
