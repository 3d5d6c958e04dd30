"""Zips from strangers: read entry by entry, never extracted; one name that could leave the folder refuses the whole zip."""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.data import limits
from sdlora.data.names import clean_name
from sdlora.data.text_decoding import DecodedText, decode_name_bytes

UTF8_NAME = 0x800
ENCRYPTED = 0x1
UNIX = (3, 19)  # systems that write a file's kind into these bits: Unix, macOS
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

LOCKED = Text(
    "It is locked with a password. Make the zip again without one.",
    "パスワードで保護されています。パスワードなしで zip を作り直してください。",
)
UNKNOWN_METHOD = Text(
    "It is compressed in an unusual way. Make the zip again with the usual method (Deflate).",
    "一般的でない方式で圧縮されています。通常の方式 (Deflate) で zip を作り直してください。",
)


@dataclass(frozen=True)
class Member:
    """One file in a zip: `parts` are folders and name, to show and to pair, never to open."""

    parts: tuple[str, ...]
    info: zipfile.ZipInfo
    refused: Text | None
    certain_name: bool = True  # False: the encoding of its name was guessed

    def opener(self, archive: zipfile.ZipFile) -> Callable[[], IO[bytes]]:
        return lambda: archive.open(self.info)


class _BoundedReader(io.BufferedReader):
    """zipfile reads the whole list of names by one call: refuse it there before it takes the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > limits.ZIP_DIRECTORY_BYTES:
            raise BadInput(
                Text(
                    "The zip lists far too many files. Zip only the pictures.",
                    "zip 内のファイルが多すぎます。画像だけを zip にしてください。",
                )
            )
        return super().read(size)


def open_zip(path: Path, stack: ExitStack, name: str = "") -> zipfile.ZipFile:
    """Raises BadInput where the file is not a whole zip."""
    try:
        stream = stack.enter_context(_BoundedReader(io.FileIO(path)))
        return stack.enter_context(zipfile.ZipFile(stream))
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, struct.error) as error:
        name = clean_name(name or path.name)
        raise BadInput(
            Text(
                f"“{name}” is not a whole zip file: it is damaged or was cut off. Make it or upload it again.",
                f"「{name}」は zip ファイルとして読めません。壊れているか途中で切れています。作り直すか、もう一度アップロードしてください。",
            )
        ) from error


def safe_members(archive: zipfile.ZipFile, zip_name: str) -> list[Member]:
    """All files in the zip, folders left out. Raises BadInput at the first unsafe name, link or device."""
    members = []
    for info in archive.infolist():
        decoded = decoded_name(info)
        name = decoded.text
        if problem := _danger(name, info):
            shown = clean_name(name)
            raise BadInput(
                Text(
                    f"“{zip_name}” was refused: its entry “{shown}” {problem.en}. Make a new zip of the pictures only.",
                    f"「{zip_name}」は読み込めません。中の「{shown}」{problem.ja}。画像だけで zip を作り直してください。",
                )
            )
        parts = tuple(part for part in re.split(r"[/\\]", name) if part not in ("", "."))
        if parts and not name.endswith(("/", "\\")):
            members.append(Member(parts, info, _refusal(info), decoded.certain))
    return members


def decoded_name(info: zipfile.ZipInfo) -> DecodedText:
    """Undo zipfile's decoding as cp437, which it takes for every name without the flag for UTF-8."""
    raw = info.orig_filename
    if info.flag_bits & UTF8_NAME or raw.isascii():
        return DecodedText(raw, "UTF-8", True)
    return decode_name_bytes(raw.encode("cp437", "replace"))


def _danger(name: str, info: zipfile.ZipInfo) -> Text | None:
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system in UNIX else 0
    if kind == stat.S_IFLNK:
        return Text("is a link", "がリンクです")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return Text("is a device, not a file", "がファイルではなくデバイスです")
    outside = name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", name) or ".." in re.split(r"[/\\]", name)
    if outside or "\0" in name:
        return Text("has a name that points outside the zip", "の名前が zip の外を指しています")
    return None


def _refusal(info: zipfile.ZipInfo) -> Text | None:
    if info.flag_bits & ENCRYPTED:
        return LOCKED
    return None if info.compress_type in METHODS else UNKNOWN_METHOD
