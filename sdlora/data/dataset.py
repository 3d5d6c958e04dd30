"""A data set as a value: pictures with captions, addressed by its content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdlora.core.text import Text

FORMAT = 1
FILE = re.compile(r"pictures/([0-9a-f]{64})\.png")


@dataclass(frozen=True)
class Item:
    """One picture with its caption."""

    name: str  # the original file name: for display only, no folders
    file: str  # inside the data set's folder: pictures/<sha256>.png; items with the same pixels share it
    sha256: str  # of the stored PNG
    width: int
    height: int
    caption: str
    mask: str = ""  # a picture in the same folder: white counts in training, black does not; "" = everything counts


@dataclass(frozen=True)
class SkippedFile:
    """A file that was given and is not in the data set, and why."""

    name: str
    reason: Text


@dataclass(frozen=True)
class Dataset:
    """Never changed once it is on disk: an edit makes a new one."""

    id: str
    name: str
    folder: Path
    items: tuple[Item, ...]
    skipped: tuple[SkippedFile, ...]
    notes: tuple[Text, ...]
    created: str = ""  # ISO 8601 in UTC, for the order of lists; not part of the id

    def path(self, item: Item) -> Path:
        return self.folder / item.file

    def mask_path(self, item: Item) -> Path | None:
        return self.folder / item.mask if item.mask else None


def content_id(items: Iterable[Item]) -> str:
    """64 bits of sha256 over (picture, name, caption, mask if any) of each item in order. JSON keeps the fields apart."""
    content = [[item.sha256, item.name, item.caption, *([item.mask] if item.mask else [])] for item in items]
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()[:16]


def to_json(dataset: Dataset) -> dict[str, Any]:
    return {
        "created": dataset.created,
        "format": FORMAT,
        "id": dataset.id,
        "items": [
            {
                "caption": item.caption,
                "file": item.file,
                "height": item.height,
                "name": item.name,
                "sha256": item.sha256,
                "width": item.width,
                **({"mask": item.mask} if item.mask else {}),
            }
            for item in dataset.items
        ],
        "name": dataset.name,
        "notes": [_text_to_json(note) for note in dataset.notes],
        "skipped": [{"name": one.name, "reason": _text_to_json(one.reason)} for one in dataset.skipped],
    }


def from_json(value: Any, folder: Path) -> Dataset:
    """The inverse. Raises ValueError, KeyError or TypeError where `value` is not what `to_json` writes."""
    if value["format"] != FORMAT:
        raise ValueError(f"format {value['format']!r}")
    items = tuple(_item_from_json(item) for item in value["items"])
    if not items or content_id(items) != value["id"]:
        raise ValueError("the id does not belong to the items")
    return Dataset(
        id=value["id"],
        name=_string(value["name"]),
        folder=folder,
        items=items,
        skipped=tuple(SkippedFile(_string(one["name"]), _text_from_json(one["reason"])) for one in value["skipped"]),
        notes=tuple(_text_from_json(note) for note in value["notes"]),
        created=_string(value["created"]),
    )


def _item_from_json(value: Any) -> Item:
    match = FILE.fullmatch(value["file"])
    if not match or match[1] != value["sha256"]:
        raise ValueError(f"file {value['file']!r}")
    width, height = value["width"], value["height"]
    if type(width) is not int or type(height) is not int or width < 1 or height < 1:
        raise ValueError(f"size {width!r} x {height!r}")
    mask = value.get("mask", "")
    if mask and not FILE.fullmatch(mask):
        raise ValueError(f"mask {mask!r}")
    return Item(_string(value["name"]), value["file"], match[1], width, height, _string(value["caption"]), mask)


def _text_to_json(text: Text) -> dict[str, str]:
    return {"en": text.en, "ja": text.ja}


def _text_from_json(value: Any) -> Text:
    return Text(_string(value["en"]), _string(value["ja"]))


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value
