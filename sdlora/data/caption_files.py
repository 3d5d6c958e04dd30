"""Caption files: .txt and .caption beside a picture, metadata.jsonl and metadata.csv, kohya's folder names."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from sdlora.core.text import Text
from sdlora.data import limits
from sdlora.data.captions import clean_caption
from sdlora.data.limits import Refusal
from sdlora.data.sources import Entry, Found
from sdlora.data.text_decoding import by_encoding, clean_name, key, readable, stem_key, suffix_of

KOHYA = re.compile(r"([0-9]{1,6})_(.*\S.*)")
CAPTION_COLUMNS = ("text", "caption")
NOT_TEXT = Text("It is not a text file.", "テキストファイルではありません。UTF-8 で保存し直してください。")
CAPTION_TOO_LONG = Text(
    f"A caption is longer than {limits.CAPTION_BYTES // 1024} KB and was left out.",
    f"キャプションが {limits.CAPTION_BYTES // 1024} KB を超えているため使いませんでした。",
)

Place = tuple[str, ...]
Rows = list[tuple[str, str]]  # file name, caption


@dataclass
class Captions:
    """Every caption that was found, by place and key of the name it belongs to."""

    beside: dict[tuple[Place, str], tuple[str, str]] = field(default_factory=dict)  # -> caption, name of its file
    listed: dict[tuple[Place, str], str] = field(default_factory=dict)
    used: set[tuple[Place, str]] = field(default_factory=set)
    notes: list[Text] = field(default_factory=list)

    def of(self, picture: Entry) -> str:
        """A file beside the picture, else a table, else the kohya folder, else empty."""
        place = keyed(picture.place)
        for name in (stem_key(picture.name), key(picture.name)):  # a.txt, a.png.txt
            if (place, name) in self.beside:
                self.used.add((place, name))
                return self.beside[place, name][0]
        if (place, key(picture.name)) in self.listed:
            self.used.add((place, key(picture.name)))
            return self.listed[place, key(picture.name)]
        match = KOHYA.fullmatch(readable(picture.folder))
        return clean_caption(match[2]) if match else ""

    def leftovers(self) -> list[Text]:
        """What belongs to no picture, once `of` was asked for all of them."""
        files = [name for where, (_, name) in self.beside.items() if where not in self.used]
        rows = len([where for where in self.listed if where not in self.used])
        notes = []
        if files:
            shown = some(files)
            notes.append(
                Text(
                    f"Caption files without a picture: {len(files)} ({shown}).",
                    f"対応する画像がないキャプションファイルが {len(files)} 個あります ({shown})。",
                )
            )
        if rows:
            notes.append(
                Text(
                    f"Lines of the metadata file without use: {rows} (no such picture, or it has a caption file).",
                    f"メタデータの {rows} 行は、画像がない、またはキャプションファイルがあるため使いませんでした。",
                )
            )
        return notes


def read_captions(found: Found, read: Callable[[Entry, int], bytes]) -> Captions:
    """Read all caption files in `found`; those that cannot be used are added to what was skipped."""
    captions = Captions()
    guessed: list[str] = []
    # .txt first, so that it wins over .caption of the same stem
    for entry in sorted(found.captions, key=lambda entry: suffix_of(entry.name) != ".txt"):
        try:
            text, sure = decode_text(read(entry, limits.CAPTION_BYTES))
        except Refusal as refused:
            found.skip(entry.name, refused.text)
            continue
        guessed.extend([] if sure else [entry.name])
        captions.beside.setdefault((keyed(entry.place), stem_key(entry.name)), (clean_caption(text), entry.name))
    for entry in sorted(found.tables, key=lambda entry: suffix_of(entry.name) != ".jsonl"):
        try:
            text, sure = decode_text(read(entry, limits.TABLE_BYTES))
            rows, bad = read_jsonl(text) if suffix_of(entry.name) == ".jsonl" else read_csv(text)
        except Refusal as refused:
            found.skip(entry.name, refused.text)
            continue
        guessed.extend([] if sure else [entry.name])
        captions.notes.extend(_add_rows(captions, entry, rows, bad))
    if guessed:
        captions.notes.append(
            Text(
                f"Unknown text encoding, read as Latin-1: {some(guessed)}. Check these captions; UTF-8 is best.",
                f"文字コードが不明なため Latin-1 として読みました: {some(guessed)}。キャプションを確認してください (UTF-8 を推奨します)。",
            )
        )
    return captions


def decode_text(data: bytes) -> tuple[str, bool]:
    """Text by its byte order mark, as UTF-8, as cp932, else as Latin-1 and then not sure. Raises Refusal for no text."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace"), True
    if b"\0" in data:
        raise Refusal(NOT_TEXT)
    text = by_encoding(data)
    return (data.decode("latin-1"), False) if text is None else (text.removeprefix("\ufeff"), True)


def read_jsonl(text: str) -> tuple[Rows, int]:
    """(file_name, text) of each line, and how many lines are neither empty nor that."""
    rows: Rows = []
    bad = 0
    for line in text.split("\n"):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        row = _row(value) if isinstance(value, dict) else None
        rows.extend([row] if row else [])
        bad += row is None
    return rows, bad


def read_csv(text: str) -> tuple[Rows, int]:
    """(file_name, text) of each row, and how many rows are not that. Raises Refusal without these columns."""
    try:
        table = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise Refusal(CAPTION_TOO_LONG if "limit" in str(error) else NOT_TEXT) from error
    if not table or "file_name" not in table[0] or not any(column in table[0] for column in CAPTION_COLUMNS):
        raise Refusal(
            Text(
                "Its first line must name the columns file_name and text.",
                "1 行目に file_name と text という列名が必要です。",
            )
        )
    rows = [row for row in map(_row, table) if row]
    return rows, len(table) - len(rows)


def some(names: list[str], most: int = 3) -> str:
    """A few names for a sentence."""
    shown = ", ".join(clean_name(name) for name in names[:most])
    return f"{shown}, … (+{len(names) - most})" if len(names) > most else shown


def keyed(place: Place) -> Place:
    return tuple(key(readable(part)) for part in place)


def repeats_of(picture: Entry) -> int | None:
    match = KOHYA.fullmatch(readable(picture.folder))
    return int(match[1]) if match else None


def _row(value: dict) -> tuple[str, str] | None:
    name = value.get("file_name")
    caption = next((value[column] for column in CAPTION_COLUMNS if value.get(column) is not None), None)
    return (name, caption) if isinstance(name, str) and isinstance(caption, str) else None


def _add_rows(captions: Captions, entry: Entry, rows: Rows, bad: int) -> list[Text]:
    """File names in a table count from the folder that the table lies in."""
    for name, caption in rows:
        parts = [part for part in readable(name).replace("\\", "/").split("/") if part != "."]
        if ".." in parts or "" in parts or len(caption.encode("utf-8", "replace")) > limits.CAPTION_BYTES:
            bad += 1
            continue
        place = keyed((*entry.place, *parts[:-1]))
        captions.listed.setdefault((place, key(parts[-1])), clean_caption(caption))
    if not bad:
        return []
    name = clean_name(entry.name)
    return [
        Text(
            f"Lines of {name} that cannot be used: {bad} (each needs file_name and text).",
            f"{name} の {bad} 行は使えませんでした。各行に file_name と text が必要です。",
        )
    ]
