"""Bytes of unknown encoding as text: marks and UTF-8 are certain, everything else is a guess by how plausible it reads."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sdlora.core.text import Text
from sdlora.data.limits import Refusal
from sdlora.data.plausibility import plausibility, usual_share

NOT_TEXT = Text("It is not a text file.", "テキストファイルではありません。UTF-8 で保存し直してください。")


@dataclass(frozen=True)
class Encoding:
    codec: str
    title: str  # the name that people know
    language: str  # of the text that is written in it, see `plausibility`
    prior: float = 0.0  # added to the points per byte: how likely it is before anything was read


TEXT_ENCODINGS = (
    Encoding("cp932", "Shift_JIS", "ja"),
    Encoding("euc_jp", "EUC-JP", "ja", -0.05),
    Encoding("cp1252", "Windows-1252", ""),
    Encoding("gb18030", "GB18030", "zh", -0.1),
    Encoding("big5", "Big5", "zh", -0.2),
    Encoding("euc_kr", "EUC-KR", "ko", -0.2),
    Encoding("cp1251", "Windows-1251", "ru", -0.2),
    Encoding("koi8_r", "KOI8-R", "ru", -0.2),
    Encoding("cp1250", "Windows-1250", "", -0.4),
)
# Names in zips come from DOS and Windows, in the code page of the country.
NAME_ENCODINGS = (
    *TEXT_ENCODINGS,
    Encoding("cp850", "CP850", "", 0.1),
    Encoding("cp437", "CP437", ""),
    Encoding("cp866", "CP866", "ru"),
    Encoding("cp852", "CP852", "", -0.3),
)
_WIDE = (Encoding("utf-16-le", "UTF-16", "cjk"), Encoding("utf-16-be", "UTF-16", "cjk"))
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
CERTAIN = 1.4  # points per byte from which on Japanese is certain, …
MARGIN = 0.5  # … unless another reading comes as near as this


@dataclass(frozen=True)
class DecodedText:
    """`encoding` is the name to show; `certain` is False where the text should be looked at."""

    text: str
    encoding: str
    certain: bool


def decode_text(data: bytes) -> DecodedText:
    """The text of a file.

    Raises:
        Refusal: it holds NULs and is neither UTF-16 nor UTF-32.
    """
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return DecodedText(data.decode(codec, "replace"), codec.removesuffix("-sig").upper(), True)
    if b"\0" in data:
        return _decode_with_nuls(data)
    if b"\x1b$" in data or b"\x1b(" in data:
        text = _try(data, "iso2022_jp_ext")
        if text is not None and "\x1b" not in text:
            return DecodedText(text, "ISO-2022-JP", True)
    text = _try(data, "utf-8")
    wide = tuple(encoding for encoding in _WIDE if _is_wide(data, encoding))
    if text is not None and not wide and not _is_doubtful(text):
        return DecodedText(text, "UTF-8", True)
    return _guess(data, (*TEXT_ENCODINGS, *wide))


@lru_cache(maxsize=65536)
def decode_name(raw: str) -> str:
    """A file's name as the system gives it: bytes that are not UTF-8 come as lone surrogates."""
    surrogates = [letter for letter in raw if "\ud800" <= letter <= "\udfff"]
    if surrogates and all("\udc80" <= letter <= "\udcff" for letter in surrogates):
        return decode_name_bytes(raw.encode("utf-8", "surrogateescape")).text
    return raw.encode("utf-8", "replace").decode() if surrogates else raw


def decode_name_bytes(data: bytes) -> DecodedText:
    """A name in a zip without the flag for UTF-8, or on a file system."""
    text = _try(data, "utf-8")
    return DecodedText(text, "UTF-8", True) if text is not None else _guess(data, NAME_ENCODINGS)


def _try(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _guess(data: bytes, encodings: Sequence[Encoding]) -> DecodedText:
    """The reading with the most points per byte that is not ASCII; KOI8-R reads any bytes."""
    readings: list[tuple[float, str, Encoding]] = []
    for encoding in encodings:
        text = _try(data, encoding.codec)
        if text is not None:
            high = len(data) if encoding in _WIDE else sum(byte >= 0x80 for byte in data) or 1
            double = sum(letter >= "\x80" for letter in text) * (
                2 if encoding.language in ("ja", "zh", "cjk", "ko") else 1
            )
            points = plausibility(text, encoding.language) / max(high, double) + encoding.prior
            readings.append((points, text, encoding))
    readings.sort(key=lambda reading: -reading[0])
    best, text, encoding = readings[0]
    rival = max((points for points, other, _ in readings if other != text), default=best - 9.0)
    certain = encoding.language == "ja" and best >= CERTAIN and best - rival >= MARGIN
    return DecodedText(text, encoding.title, certain)


def _decode_with_nuls(data: bytes) -> DecodedText:
    """UTF-16 or UTF-32 without a mark: the byte order that reads as usual characters. Raises Refusal."""
    readings = [
        (codec, text) for codec in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be") if (text := _try(data, codec))
    ]
    readable = [(codec, text) for codec, text in readings if all(c.isprintable() or c.isspace() for c in text)]
    if not readable:
        raise Refusal(NOT_TEXT)
    codec, text = max(readable, key=lambda reading: usual_share(reading[1]))
    if max(plausibility(text, language) for language in ("cjk", "ko", "ru", "")) < 0:
        raise Refusal(NOT_TEXT)
    return DecodedText(text, codec[:6].upper(), True)


def _is_wide(data: bytes, encoding: Encoding) -> bool:
    """Whether bytes without NULs may be Japanese or Chinese in UTF-16: there is no letter of ASCII then, not even a blank."""
    text = _try(data, encoding.codec) if len(data) % 2 == 0 else None
    if text is None or len(text) < 2 or usual_share(text) < 0.75 or any(letter <= "\x7f" for letter in text):
        return False
    return not data.isascii() or data.count(0x30) * 4 >= len(data)


def _is_doubtful(text: str) -> bool:
    """Whether valid UTF-8 is so short and odd that it may be one ideograph in another encoding: `猫` in EUC-JP is `ǭ`."""
    odd = [letter for letter in text if letter >= "\x80"]
    return 0 < len(odd) <= 2 and all("\x80" <= letter <= "\u07ff" for letter in odd) and plausibility(text, "") < 0
