"""Names of files as people see them: cleaned for display, keyed for pairing, ordered as a person counts."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 200
# Marks that turn the reading direction can make "gpj.exe" look like "exe.jpg".
DIRECTION_MARKS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def clean_name(raw: str) -> str:
    """A file's own name for display: NFC, no folders, no control characters, never empty, encodable as UTF-8."""
    text = unicodedata.normalize("NFC", readable(raw)).replace("\\", "/").rsplit("/", 1)[-1]
    text = "".join("_" if _hidden(letter) else letter for letter in text).strip()
    if len(text) > LONGEST:
        stem, dot, suffix = text.rpartition(".")
        text = text[:LONGEST] if not dot or len(suffix) > 10 else stem[: LONGEST - len(suffix) - 1] + dot + suffix
    return text or "_"


def readable(raw: str) -> str:
    """Names that the file system could not decode as UTF-8 (lone surrogates) are Japanese ones most of the time."""
    data = raw.encode("utf-8", "surrogateescape") if _escaped(raw) else raw.encode("utf-8", "replace")
    return by_encoding(data) or data.decode("utf-8", "replace")


def by_encoding(data: bytes) -> str | None:
    """Text in UTF-8 or in cp932, the encoding of Japanese Windows; None where it is neither.

    Python's cp932 takes nearly any byte: letters of the private area mean that it guessed.
    """
    for encoding in ("utf-8", "cp932"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8" or not any("\ue000" <= letter <= "\uf8ff" for letter in text):
            return text
    return None


def key(name: str) -> str:
    """Two names with the same key are the same name to a person: macOS writes NFD, Windows ignores case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def stem_key(name: str) -> str:
    stem, dot, _ = name.rpartition(".")
    return key(stem if dot and stem else name)


def suffix_of(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sort key by which "2.png" comes before "10.png". Digits are compared by length, then as text: no huge integers."""
    parts = re.split(r"([0-9]+)", key(name))
    return tuple((len(part.lstrip("0")), part.lstrip("0")) if i % 2 else (0, part) for i, part in enumerate(parts))


def _hidden(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in DIRECTION_MARKS


def _escaped(raw: str) -> bool:
    surrogates = [letter for letter in raw if "\ud800" <= letter <= "\udfff"]
    return bool(surrogates) and all("\udc80" <= letter <= "\udcff" for letter in surrogates)
