"""What was given, as one flat list of entries: loose files, folders, zips. Here bytes are counted while they are read."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.data import limits
from sdlora.data.dataset import SkippedFile
from sdlora.data.limits import Refusal
from sdlora.data.text_decoding import clean_name, key, suffix_of
from sdlora.data.zips import open_zip, safe_members

CAPTION_SUFFIXES = frozenset({".txt", ".caption"})
TABLE_NAMES = frozenset({"metadata.jsonl", "metadata.csv"})
ARCHIVES = frozenset({".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".lzh"})
IGNORED = frozenset({"thumbs.db", "desktop.ini", "__macosx"})

NOT_A_FILE = Text(
    "It is a link, a device or something else that is not an ordinary file. Give the file itself.",
    "リンクやデバイスなど、通常のファイルではありません。ファイルそのものを指定してください。",
)
INNER_ARCHIVE = Text(
    "An archive inside a folder or a zip is not opened. Add zips on their own; unpack other archives first.",
    "フォルダーや zip の中の圧縮ファイルは開きません。zip は単独で追加し、ほかの形式は先に展開してください。",
)
NOT_A_PICTURE = Text(
    "It is not a picture in a format that is read here (PNG, JPEG, WebP, BMP, GIF, TIFF).",
    "対応している形式 (PNG, JPEG, WebP, BMP, GIF, TIFF) の画像ではありません。",
)
UNREADABLE = Text(
    "It cannot be read: damaged in the zip, or no permission. Make the zip again or check the file.",
    "読み取れません。zip 内で壊れているか、読み取り権限がありません。zip を作り直すか、ファイルを確認してください。",
)


@dataclass(frozen=True)
class Entry:
    """One file that was given."""

    place: tuple[str, ...]  # the source and the folders in it: files of one place are paired with each other
    folder: str  # the name of the folder it lay in, for kohya's "10_name class"
    name: str
    size: int  # as announced; `chunks` counts the real one
    open: Callable[[], IO[bytes]]


@dataclass
class Found:
    maximum: limits.ImportLimits
    pictures: list[Entry] = field(default_factory=list)
    captions: list[Entry] = field(default_factory=list)
    tables: list[Entry] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    count: int = 0

    def add(self, entry: Entry) -> None:
        """Sort one entry by its name; what it really is shows when it is read."""
        self.count += 1
        if self.count > self.maximum.files:
            raise BadInput(
                Text(
                    f"There are more than {self.maximum.files:,} files. Give only the pictures and their captions.",
                    f"ファイルが {self.maximum.files:,} 個を超えています。画像とキャプションだけを指定してください。",
                )
            )
        suffix = suffix_of(entry.name)
        if suffix in limits.SUFFIXES:
            self.pictures.append(entry)
        elif key(entry.name) in TABLE_NAMES:
            self.tables.append(entry)
        elif suffix in CAPTION_SUFFIXES:
            self.captions.append(entry)
        else:
            self.skip(entry.name, INNER_ARCHIVE if suffix in ARCHIVES else NOT_A_PICTURE)

    def skip(self, name: str, reason: Text) -> None:
        self.skipped.append(SkippedFile(clean_name(name), reason))


class Budget:
    """The bytes that may still be read for this set."""

    def __init__(self, maximum: limits.ImportLimits) -> None:
        self.all = self.left = maximum.bytes

    def take(self, size: int) -> None:
        """Raises BadInput when more was unpacked than a set may hold: a zip bomb ends here."""
        self.left -= size
        if self.left < 0:
            gigabytes = f"{self.all / 1e9:g}"
            raise BadInput(
                Text(
                    f"The files are larger than {gigabytes} GB unpacked. Divide them into several data sets.",
                    f"展開後のサイズが {gigabytes} GB を超えています。複数のデータセットに分けてください。",
                )
            )


def collect(sources: Sequence[Path], stack: ExitStack, maximum: limits.ImportLimits) -> Found:
    """List everything in `sources`; zips stay open as long as `stack`. Raises BadInput for what must not be touched."""
    found = Found(maximum)
    loose = []
    for number, source in enumerate(sources):
        if os.path.isdir(source):  # not Path.is_dir: that raises for names no file system takes
            _add_folder(source, number, found)
        elif not os.path.exists(source):
            name = clean_name(source.name)
            raise BadInput(
                Text(
                    f"There is no file or folder “{name}”. Check the path.",
                    f"「{name}」が見つかりません。パスを確認してください。",
                )
            )
        elif not os.path.isfile(source):
            found.skip(source.name, NOT_A_FILE)
        elif suffix_of(source.name) == ".zip":
            _add_zip(source, number, found, stack)
        elif not ignored(source.name):
            loose.append(source)
    _add_loose(loose, found)
    return found


def ignored(name: str) -> bool:
    """What systems leave behind and nobody misses."""
    return name.startswith(".") or key(name) in IGNORED


def chunks(entry: Entry, limit: int, budget: Budget) -> Iterator[bytes]:
    """The bytes of one entry. Raises Refusal where it is larger than `limit`, whatever its header says, or damaged."""
    total = entry.size
    try:
        if total <= limit:
            total = 0
            with entry.open() as stream:
                while total <= limit and (chunk := stream.read(1 << 20)):
                    total += len(chunk)
                    budget.take(len(chunk))
                    yield chunk
    except (OSError, EOFError, ValueError, NotImplementedError, struct.error, zlib.error, zipfile.BadZipFile) as error:
        raise Refusal(UNREADABLE) from error
    if total > limit:
        size = f"{limit / 1e6:g} MB" if limit >= limits.MEGA else f"{limit // 1024} KB"
        raise Refusal(
            Text(f"It is larger than {size}. Make it smaller.", f"{size} を超えています。小さくしてください。")
        )


def _add_folder(source: Path, number: int, found: Found) -> None:
    top = source.resolve()
    for folder, folders, files in os.walk(top):
        for name in [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            found.skip(name, NOT_A_FILE)
        folders[:] = sorted(name for name in folders if not ignored(name))
        parent = Path(folder)
        place = (str(number), top.name, *parent.relative_to(top).parts)
        for name in sorted(files):
            if not ignored(name):
                _add_file(parent / name, place, found)


def _add_file(path: Path, place: tuple[str, ...], found: Found) -> None:
    if path.is_symlink() or not path.is_file():
        found.skip(path.name, NOT_A_FILE)
        return
    found.add(Entry(place, path.parent.name, path.name, path.stat().st_size, _opener(path)))


def _add_loose(files: Sequence[Path], found: Found) -> None:
    """A folder that gave pictures and captions pairs within itself. All others are one place: a browser's uploads
    arrive in a folder each."""
    seen: dict[Path, set[bool]] = {}
    for file in files:
        seen.setdefault(file.parent, set()).add(suffix_of(file.name) in limits.SUFFIXES)
    for file in files:
        home = (str(file.parent),) if len(seen[file.parent]) == 2 else ()
        found.add(Entry(("", *home), file.absolute().parent.name, file.name, file.stat().st_size, _opener(file)))


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def _add_zip(source: Path, number: int, found: Found, stack: ExitStack) -> None:
    archive = open_zip(source, stack)
    for member in safe_members(archive, clean_name(source.name)):
        if any(ignored(part) for part in member.parts):
            continue
        *folders, name = member.parts
        if member.refused:
            found.skip(name, member.refused)
            continue
        place = (str(number), *folders)
        found.add(Entry(place, folders[-1] if folders else "", name, member.info.file_size, member.opener(archive)))
