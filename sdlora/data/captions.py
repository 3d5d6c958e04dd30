"""Captions as text: cleaned once where they enter, edited all at once, a trigger word put in front."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

CLOSING = ",.;:!?)、。，．！？"


def clean_caption(text: str) -> str:
    """One line, no control characters, no lone surrogates (JSON may hold them, UTF-8 may not). Otherwise as written."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = re.sub(r"\s*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+\s*", " ", text).replace("\t", " ")
    return "".join(letter for letter in text if unicodedata.category(letter) != "Cc").strip("\ufeff \u3000")


def add_prefix(captions: Sequence[str], text: str) -> list[str]:
    """`text` in front of each; a space between where there is none."""
    return [_join(text, caption) if text.strip() else caption for caption in captions]


def add_suffix(captions: Sequence[str], text: str) -> list[str]:
    """`text` behind each; a space between, except before punctuation."""
    return [_join(caption, text) if text.strip() else caption for caption in captions]


def replace(captions: Sequence[str], find: str, by: str) -> list[str]:
    """Every place where `find` stands, letter for letter (no patterns). An empty `find` changes nothing."""
    return [caption.replace(find, by).strip() if find and find in caption else caption for caption in captions]


def with_trigger(caption: str, trigger: str) -> str:
    """ "trigger, caption"; unchanged where the caption has the trigger as a whole word or phrase, in any case."""
    trigger = trigger.strip()
    if not trigger or re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", caption, re.IGNORECASE):
        return caption
    return f"{trigger}, {caption}" if caption.strip() else trigger


def without_trigger(caption: str, trigger: str, instead: str = "") -> str:
    """What the caption says of any such picture: the trigger's place taken by `instead`, or closed where that is empty."""
    trigger = trigger.strip()
    if not trigger:
        return caption
    found = re.sub(rf"(?<!\w){re.escape(trigger)}(?!\w)", lambda _: instead.strip(), caption, flags=re.IGNORECASE)
    found = re.sub(r"\s{2,}", " ", re.sub(r"\s*([,、])(\s*[,、])*", r"\1", found))
    return found.strip(" ,、")


def _join(left: str, right: str) -> str:
    if not left.strip() or not right.strip():
        return (left + right).strip(" ,、")
    glued = left[-1].isspace() or right[0].isspace() or right[0] in CLOSING
    return (left + ("" if glued else " ") + right).strip()
