"""Tables of captions as people write them: CSV with any separator, JSON lines, arrays, kohya's meta_cap.json. Text in, rows out.

A row that is not understood is reported with its text, never half read.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sdlora.core.text import Text
from sdlora.data import limits
from sdlora.data.limits import Refusal
from sdlora.data.names import suffix

FILE_COLUMNS = (
    *(
        "file_name",
        "filename",
        "file",
        "file_path",
        "filepath",
        "path",
        "image_file",
        "image_path",
        "image_name",
        "image",
    ),
    *("img", "picture", "photo", "ファイル名", "ファイル", "画像", "画像名"),
)
CAPTION_COLUMNS = (
    *("text", "caption", "prompt", "captions", "description", "sentence", "label", "additional_feature"),
    *("キャプション", "説明", "説明文", "プロンプト", "テキスト"),
)
TAG_COLUMNS = ("tags", "tag_string", "tag", "タグ")
SEPARATORS = (",", ";", "\t", "|")
PICTURE_NAME = re.compile(r"\.(png|jpe?g|jpe|jfif|webp|bmp|gif|tiff?|avif|heic|heif)$", re.IGNORECASE)
SHOWN_LENGTH = 60  # of a row that is not understood

NO_COLUMNS = Text(
    "Its first line must name the columns file_name and text.", "1 行目に file_name と text という列名が必要です。"
)
NO_CAPTIONS = Text(
    "No captions were found in it. Captions are read from text files beside the pictures, or from a table with file_name and text in .csv, .jsonl or .json.",
    "キャプションが見つかりません。画像と同名のテキストファイル、または file_name と text を持つ .csv / .jsonl / .json の表を使ってください。",
)
CAPTION_TOO_LONG = Text(
    f"A caption is longer than {limits.CAPTION_BYTES // 1024} KB and was left out.",
    f"キャプションが {limits.CAPTION_BYTES // 1024} KB を超えているため使いませんでした。",
)


@dataclass(frozen=True)
class Row:
    file_name: str  # as written: with folders, without a suffix, absolute, …
    caption: str


@dataclass
class Table:
    rows: list[Row] = field(default_factory=list)
    misread: list[str] = field(default_factory=list)  # the beginnings of rows that were not understood
    misread_count: int = 0

    def add(self, row: Row | None, source: object) -> None:
        """`row`, or where it is None a note of the `source` that it was not made of."""
        if row is not None:
            self.rows.append(row)
            return
        self.misread_count += 1
        if len(self.misread) < 3:
            text = source if isinstance(source, str) else json.dumps(source, ensure_ascii=False, default=str)
            text = " ".join(text.split())
            self.misread.append(text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 1] + "…")


def read_table(name: str, text: str) -> Table:
    """The rows of a table file.

    Raises:
        Refusal: it has no rows, or not the columns.
    """
    return read_json(text) if suffix(name).startswith((".json", ".ndjson", ".jl")) else read_csv(text)


def caption_of_json(text: str) -> str | None:
    """The caption in a JSON file beside one picture: `{"caption": …}`; None where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, str) else _caption(_normalised(value)) if isinstance(value, dict) else None


# --- JSON ---


def read_json(text: str) -> Table:
    """Objects in lines, in an array, one after another or over several lines; or one object with a member for each picture."""
    table = Table()
    for value in _json_values(text):
        if isinstance(value, _Broken):
            table.add(None, value.text)
        elif isinstance(value, list) and value:
            for one in value:
                table.add(_json_row(one), one)
        elif isinstance(value, dict) and _value_of(_normalised(value), FILE_COLUMNS) is None and _is_mapping(value):
            for name, one in value.items():
                table.add(_row_of_member(name, one), {name: one})
        else:
            table.add(_json_row(value), value)
    return table


_VALUE = re.compile(r"[^\s,;]")
DEEP = 100_000  # characters that a value counts for which is nested too deeply


@dataclass(frozen=True)
class _Broken:
    text: str


def _json_values(text: str) -> Iterator[Any]:
    """All values in a text, whatever stands between them; a broken one is skipped to the end of its line.

    Broken ones that hold each other would be read once for each line: the rest is one broken value after four times the text.
    """
    decoder, position, effort = json.JSONDecoder(), 0, 0
    while match := _VALUE.search(text, position):
        try:
            value, position = decoder.raw_decode(text, match.start())
            yield value
        except (ValueError, RecursionError) as error:
            effort += error.pos - match.start() if isinstance(error, json.JSONDecodeError) else DEEP
            if effort > 4 * len(text) + DEEP:
                yield _Broken(text[match.start() : match.start() + 1000])
                return
            end = text.find("\n", match.start())
            position = len(text) if end < 0 else end
            yield _Broken(text[match.start() : min(position, match.start() + 1000)])


def _json_row(value: Any) -> Row | None:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value):
        return Row(*value) if PICTURE_NAME.search(value[0]) else None
    if not isinstance(value, dict):
        return None
    fields = _normalised(value)
    name = _value_of(fields, FILE_COLUMNS)
    caption = _caption(fields)
    if caption is None and len(fields) == 2:  # any other name of the second column
        caption = next((v for k, v in fields.items() if k not in FILE_COLUMNS), None)
    return Row(name, caption) if isinstance(name, str) and isinstance(caption, str) else None


def _is_mapping(value: Mapping[str, Any]) -> bool:
    """Whether the members of an object are pictures, as in kohya's `{"a": {"caption": "…"}}` or `{"a.png": "…"}`."""
    if _caption(_normalised(value)) is not None and not all(isinstance(v, dict) for v in value.values()):
        return False
    return bool(value) and all(isinstance(v, dict) or PICTURE_NAME.search(k) for k, v in value.items())


def _row_of_member(name: str, value: Any) -> Row | None:
    caption = value if isinstance(value, str) else _caption(_normalised(value)) if isinstance(value, dict) else None
    return Row(name, caption) if caption is not None else None


def _normalised(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {_column(str(name)): one for name, one in value.items()}


def _column(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().strip("\"'").strip().casefold().lstrip("\ufeff"))


def _value_of(fields: Mapping[str, Any], columns: tuple[str, ...]) -> Any:
    return next((fields[column] for column in columns if fields.get(column) is not None), None)


def _caption(fields: Mapping[str, Any]) -> str | None:
    """A caption, tags, or both as sd-scripts join them: the caption, a comma, the tags."""
    caption, tags = _value_of(fields, CAPTION_COLUMNS), _value_of(fields, TAG_COLUMNS)
    if isinstance(tags, list) and all(isinstance(tag, str) for tag in tags):
        tags = ", ".join(tags)
    if caption is None or tags is None:
        return next((one for one in (caption, tags) if isinstance(one, str)), None)
    both = isinstance(caption, str) and isinstance(tags, str)
    return (f"{caption}, {tags}" if caption and tags else caption or tags) if both else None


# --- CSV ---


@dataclass(frozen=True)
class _Layout:
    """How the columns of a CSV stand."""

    separator: str
    quote: str
    columns: int  # 0 = no header, two columns
    file: int
    caption: int
    tags: int | None = None


def read_csv(text: str) -> Table:
    """Rows of a table with a header, or of two columns of which the first holds names of pictures.

    Raises:
        Refusal: neither, or a caption is too long.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n\ufeff")
    lines = text.split("\n")
    separators: tuple[str, ...] = SEPARATORS
    if match := re.fullmatch(r"\s*sep=(.)\s*", lines[0], re.IGNORECASE):  # Excel's own first line
        separators, lines = (match[1],), lines[1:]
    layout, has_header = _csv_layout(lines, separators)
    table = Table()
    for cells, raw in _csv_rows(lines[1:] if has_header else lines, layout):
        if any(cell.strip() for cell in cells):
            table.add(_csv_row(cells, raw, layout), raw)
    if not table.rows and not table.misread_count:
        raise Refusal(NO_COLUMNS)
    return table


def _csv_layout(lines: list[str], separators: tuple[str, ...]) -> tuple[_Layout, bool]:
    """The layout, and whether the first line is a header. Raises Refusal."""
    first = next((line for line in lines if line.strip()), "")
    quote = "'" if first.lstrip().startswith("'") else '"'
    for separator in separators:
        header = [_column(cell) for cell in _cells(first, separator, quote)]
        file = next((header.index(column) for column in FILE_COLUMNS if column in header), None)
        caption = next((header.index(column) for column in CAPTION_COLUMNS if column in header), None)
        tags = next((header.index(column) for column in TAG_COLUMNS if column in header), None)
        if file is not None and (caption is not None or tags is not None):
            if caption is None:
                caption, tags = tags, None
            assert caption is not None
            return _Layout(separator, quote, len(header), file, caption, tags), True
    for separator in separators:
        cells = _cells(first, separator, quote)
        if len(cells) > 1 and PICTURE_NAME.search(cells[0].strip()):
            return _Layout(separator, quote, 2, 0, 1), False
    raise Refusal(NO_COLUMNS)


def _cells(line: str, separator: str, quote: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, quotechar=quote, skipinitialspace=True), [])
    except csv.Error as error:
        raise Refusal(CAPTION_TOO_LONG) from error


def _csv_rows(lines: list[str], layout: _Layout) -> Iterator[tuple[list[str], str]]:
    """Cells and text of each row. Where a quote is not closed, each line counts for itself."""
    options: dict[str, Any] = {
        "delimiter": layout.separator,
        "quotechar": layout.quote,
        "skipinitialspace": True,
        "strict": True,
    }
    reader, begin = csv.reader(io.StringIO("\n".join(lines), newline=""), **options), 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "limit" in str(error):
                raise Refusal(CAPTION_TOO_LONG) from error
            yield [" ".join(lines[begin : begin + 1])], lines[begin]
            yield from _csv_rows(lines[begin + 1 :], layout)
            return
        yield cells, "\n".join(lines[begin : reader.line_num])
        begin = reader.line_num


def _csv_row(cells: list[str], raw: str, layout: _Layout) -> Row | None:
    """None where a cell is missing. Commas of a caption without quotes belong to the caption."""
    extra = len(cells) - layout.columns
    if len(cells) <= max(layout.file, layout.caption):
        return None
    last = layout.caption == layout.columns - 1
    if extra > 0 and any(cell.strip() for cell in cells[layout.columns :]):
        quoted = any(cell.lstrip().startswith(layout.quote) for cell in raw.split(layout.separator))
        if quoted or layout.tags is not None or not (last or layout.columns == 2):
            return None
        cells = raw.split(layout.separator)
        end = len(cells) if last else layout.caption + extra + 1
        caption = layout.separator.join(cells[layout.caption : end])
        cells = [*cells[: layout.caption], caption, *cells[end:]]
    fields = {"file_name": cells[layout.file].strip(), "caption": cells[layout.caption].strip()}
    if layout.tags is not None and layout.tags < len(cells):
        fields["tags"] = cells[layout.tags].strip()
    caption_text = _caption(fields)
    return Row(fields["file_name"], caption_text) if fields["file_name"] and caption_text is not None else None
