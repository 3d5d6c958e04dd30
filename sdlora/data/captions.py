"""Captions as text: cleaned on import, edited, split into tags; the trigger word found in them and put in front."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

CLOSING = ",.;:!?)、。，．！？"


def clean_caption(text: str) -> str:
    """One line, no control characters, no lone surrogates (JSON may hold them, UTF-8 may not), no full-width letters. Otherwise as written."""
    text = narrow(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    text = re.sub(r"\s*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+\s*", " ", text).replace("\t", " ")
    return "".join(letter for letter in text if unicodedata.category(letter) != "Cc").strip("\ufeff ")


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
    """ "trigger, caption"; unchanged where the caption has the trigger as a whole word or phrase, see `trigger_spans`."""
    trigger = narrow(trigger.strip())
    if not trigger or trigger_spans(caption, trigger):
        return caption
    return f"{trigger}, {caption}" if caption.strip() else trigger


def without_trigger(caption: str, trigger: str, class_words: str = "") -> str:
    """What the caption says of any such picture: `class_words` in the trigger's place, which closes where they are empty."""
    class_words, result, position = class_words.strip(), "", 0
    for begin, end in trigger_spans(caption, trigger):
        result += caption[position:begin] + class_words
        position = end + (not class_words and caption[end : end + 1] == "の")
    if not position:
        return caption
    text = re.sub(r"\s{2,}", " ", re.sub(r"\s*([,、，])(\s*[,、，])*", r"\1", result + caption[position:]))
    return text.strip(" ,、，")


def trigger_spans(caption: str, trigger: str) -> list[tuple[int, int]]:
    """Where the caption has the trigger: begin and end of each place, in any case and width of letters.

    A place must not be part of a longer word. Where letters of two scripts meet a word ends, also without a blank: `mystyleの絵` and
    `魔法少女の絵` have the triggers `mystyle` and `魔法少女`, `魔法少女隊` has not.
    """
    folded, origin = _folded(caption)
    wanted, _ = _folded(trigger.strip())
    spans, position = [], folded.find(wanted) if wanted else -1
    while position >= 0:
        end = position + len(wanted)
        before, after = folded[position - 1 : position], folded[end : end + 1]
        if not _continues(before, wanted[0]) and (not _continues(wanted[-1], after) or after in KANJI_SUFFIXES):
            spans.append((origin[position], origin[end - 1] + 1))
            position = end
        else:
            position += 1
        position = folded.find(wanted, position)
    return spans


def split_tags(caption: str) -> list[str]:
    """The parts between commas of any script, without blanks and empty ones."""
    return [tag for part in re.split(r"[,、，､]", caption) if (tag := part.strip())]


def join_tags(tags: Sequence[str], caption: str) -> str:
    """Tags in another order, between commas as the caption has them."""
    comma = re.search(r"[,、，､]", caption)
    return (comma[0] if comma and comma[0] != "," else ", ").join(tags)


def tags_in_front(tags: Sequence[str], count: int, trigger: str) -> tuple[list[str], list[str]]:
    """The `count` tags that stay in front, and the others. The trigger's tag is the first of them, wherever it stands."""
    first = next((index for index, tag in enumerate(tags) if count and trigger_spans(tag, trigger)), 0)
    ordered = [tags[first], *tags[:first], *tags[first + 1 :]] if tags else []
    return ordered[:count], ordered[count:]


def narrow(text: str) -> str:
    """Full-width letters, digits and blanks as the usual ones: text encoders know them as other words, or not at all."""
    return text.translate(_NARROW)


_NARROW = {
    code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), 0xFF3F, *range(0xFF41, 0xFF5B))
}
_NARROW[0x3000] = 0x20
KANJI_SUFFIXES = frozenset("達様君氏殿的風")  # that may follow a word of kanji without making another one of it


def _folded(text: str) -> tuple[str, list[int]]:
    """The text without case and width, and for each of its letters the index of the one it was made of."""
    parts = [unicodedata.normalize("NFKC", letter).casefold() for letter in text]
    return "".join(parts), [index for index, part in enumerate(parts) for _ in part]


def _continues(left: str, right: str) -> bool:
    """Whether a word goes on from one letter to the next. Between hiragana, which have particles too, it is not taken to."""
    scripts = _script(left), _script(right)
    return scripts[0] == scripts[1] and scripts[0] in ("letters", "kanji", "katakana")


def _script(letter: str) -> str:
    if not letter or not (letter.isalnum() or letter in "_ー々"):
        return ""
    if "\u3040" <= letter <= "\u309f" or "\uac00" <= letter <= "\ud7a3":
        return "syllables"
    if "\u30a0" <= letter <= "\u30ff":
        return "katakana"
    return "kanji" if "\u3400" <= letter <= "\u9fff" or letter == "々" else "letters"


def _join(left: str, right: str) -> str:
    if not left.strip() or not right.strip():
        return (left + right).strip(" ,、")
    glued = left[-1].isspace() or right[0].isspace() or right[0] in CLOSING
    return (left + ("" if glued else " ") + right).strip()
