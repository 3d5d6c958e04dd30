"""What was given, loose files, folders and zips, as one list of files; bytes are counted while they are read."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO

from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.data import image_formats, limits
from sdlora.data.dataset import SkippedFile
from sdlora.data.limits import Refusal
from sdlora.data.names import clean_name, folded_key, shorten_list, suffix
from sdlora.data.zips import open_zip, safe_members

CAPTION_SUFFIXES = frozenset({".txt", ".text", ".caption", ".captions", ".tags"})
DOCUMENTS = frozenset({".md", ".rtf", ".doc", ".docx", ".odt", ".pages", ".html", ".htm", ".xml", ".yaml", ".yml"})
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".json1", ".jsonlines", ".ndjson", ".jl"})
SPREADSHEETS = frozenset({".xlsx", ".xls", ".ods", ".numbers"})
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
    f"It is not a picture in a format that is read here ({image_formats.TITLES}).",
    f"対応している形式 ({image_formats.TITLES}) の画像ではありません。",
)
DOCUMENT = Text(
    "It is a document, not a picture. Captions are read from text files (.txt) with the pictures' names, or from a table (.csv, .jsonl).",
    "画像ではなく文書ファイルです。キャプションは画像と同名のテキストファイル (.txt) か、表 (.csv, .jsonl) で用意してください。",
)
SPREADSHEET = Text(
    "It is a spreadsheet. Save the table as CSV (UTF-8), with the columns file_name and text.",
    "表計算ソフトのファイルです。file_name と text の列を持つ表として CSV (UTF-8) で保存してください。",
)
UNREADABLE = Text(
    "It cannot be read: damaged in the zip, or no permission. Make the zip again or check the file.",
    "読み取れません。zip 内で壊れているか、読み取り権限がありません。zip を作り直すか、ファイルを確認してください。",
)


READ_ERRORS = (OSError, EOFError, ValueError, NotImplementedError, struct.error, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True)
class Upload:
    """A file that came under another name than it lies under: `name` is the one on the person's disk."""

    path: Path
    name: str


@dataclass(frozen=True, eq=False)
class SourceFile:
    """One file that was given; equal to itself alone, since two may have the same name and place."""

    folders: tuple[str, ...]  # the source and the folders in it; files of one folder are paired with each other
    parent: str  # name of the folder it lies in, which for a loose file is not among `folders`
    name: str
    size: int  # as announced; `read_chunks` counts the real one
    open: Callable[[], IO[bytes]]

    @cached_property
    def title(self) -> str:
        """The name for display."""
        return clean_name(self.name)


@dataclass
class SourceFiles:
    """All files that were given, sorted by what they are called or, where that says nothing, by their first bytes."""

    maximum: limits.ImportLimits
    pictures: list[SourceFile] = field(default_factory=list)
    captions: list[SourceFile] = field(default_factory=list)  # text files beside pictures
    tables: list[SourceFile] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    notes: list[Text] = field(default_factory=list)
    count: int = 0

    def add(self, file: SourceFile) -> None:
        self.count += 1
        if self.count > self.maximum.files:
            raise BadInput(
                Text(
                    f"There are more than {self.maximum.files:,} files. Give only the pictures and their captions.",
                    f"ファイルが {self.maximum.files:,} 個を超えています。画像とキャプションだけを指定してください。",
                )
            )
        ending = suffix(file.name)
        if ending in image_formats.SUFFIXES:
            self.pictures.append(file)
        elif ending in TABLE_SUFFIXES:
            self.tables.append(file)
        elif ending in CAPTION_SUFFIXES:
            self.captions.append(file)
        elif ending in ARCHIVES:
            self.skip(file.name, INNER_ARCHIVE)
        elif ending in SPREADSHEETS:
            self.skip(file.name, SPREADSHEET)
        elif ending in DOCUMENTS:
            self.skip(file.name, DOCUMENT)
        else:
            self._add_by_content(file, ending)

    def _add_by_content(self, file: SourceFile, ending: str) -> None:
        try:
            with file.open() as stream:
                header = stream.read(image_formats.HEADER_BYTES)
        except READ_ERRORS:
            header = b""
        if image_formats.is_picture(header, ending):
            self.pictures.append(file)
        else:
            kind = image_formats.detect_format(header, ending)
            self.skip(file.name, image_formats.refusal_text(kind) or NOT_A_PICTURE)

    def skip(self, name: str, reason: Text) -> None:
        self.skipped.append(SkippedFile(clean_name(name), reason))


class ByteBudget:
    """The bytes that may still be read for one import."""

    def __init__(self, maximum: limits.ImportLimits) -> None:
        self.all = self.left = maximum.bytes

    def take(self, size: int) -> None:
        """Raises BadInput where more was unpacked than a set may hold, as of a zip bomb."""
        self.left -= size
        if self.left < 0:
            gigabytes = f"{self.all / 1e9:g}"
            raise BadInput(
                Text(
                    f"The files are larger than {gigabytes} GB unpacked. Divide them into several data sets.",
                    f"展開後のサイズが {gigabytes} GB を超えています。複数のデータセットに分けてください。",
                )
            )


def collect(sources: Sequence[Path | Upload], stack: ExitStack, maximum: limits.ImportLimits) -> SourceFiles:
    """List everything in `sources`; zips stay open as long as `stack`. Raises BadInput for what must not be touched."""
    found, loose = SourceFiles(maximum), list[Upload]()
    for number, given in enumerate(sources):
        source, name = (given.path, given.name) if isinstance(given, Upload) else (given, given.name)
        if os.path.isdir(source):  # not Path.is_dir: that raises for names no file system takes
            _add_folder(source, number, found)
        elif not os.path.exists(source):
            shown = clean_name(name)
            raise BadInput(
                Text(
                    f"There is no file or folder “{shown}”. Check the path.",
                    f"「{shown}」が見つかりません。パスを確認してください。",
                )
            )
        elif not os.path.isfile(source):
            found.skip(name, NOT_A_FILE)
        elif suffix(name) == ".zip":
            _add_zip(source, name, number, found, stack)
        elif not ignored(name):
            loose.append(Upload(source, name))
    _add_loose(loose, found)
    return found


def ignored(name: str) -> bool:
    """Files that operating systems leave in folders."""
    return name.startswith(".") or folded_key(name) in IGNORED


def read_chunks(file: SourceFile, limit: int, budget: ByteBudget) -> Iterator[bytes]:
    """The bytes of one file. Raises Refusal where it is larger than `limit`, whatever its header says, or damaged."""
    total = file.size
    try:
        if total <= limit:
            total = 0
            with file.open() as stream:
                while total <= limit and (chunk := stream.read(1 << 20)):
                    total += len(chunk)
                    budget.take(len(chunk))
                    yield chunk
    except READ_ERRORS as error:
        raise Refusal(UNREADABLE) from error
    if total > limit:
        size = f"{limit / 1e6:g} MB" if limit >= limits.MEGA else f"{limit // 1024} KB"
        raise Refusal(
            Text(f"It is larger than {size}. Make it smaller.", f"{size} を超えています。小さくしてください。")
        )


def _add_folder(source: Path, number: int, found: SourceFiles) -> None:
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


def _add_file(path: Path, place: tuple[str, ...], found: SourceFiles) -> None:
    if path.is_symlink() or not path.is_file():
        found.skip(path.name, NOT_A_FILE)
        return
    found.add(SourceFile(place, path.parent.name, path.name, path.stat().st_size, _opener(path)))


def _add_loose(files: Sequence[Upload], found: SourceFiles) -> None:
    """A folder that gave pictures and captions pairs within itself. All others are one place: a browser's uploads
    arrive in a folder each."""
    kinds: dict[Path, set[bool]] = {}
    for file in files:
        kinds.setdefault(file.path.parent, set()).add(suffix(file.name) in image_formats.SUFFIXES)
    for file in files:
        path = file.path
        home = (str(path.parent),) if len(kinds[path.parent]) == 2 else ()
        found.add(SourceFile(("", *home), path.absolute().parent.name, file.name, path.stat().st_size, _opener(path)))


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def _add_zip(source: Path, name: str, number: int, found: SourceFiles, stack: ExitStack) -> None:
    archive = open_zip(source, stack, name)
    doubtful = []
    for member in safe_members(archive, clean_name(name)):
        if any(ignored(part) for part in member.parts):
            continue
        *folders, file_name = member.parts
        if not member.certain_name:
            doubtful.append(clean_name(file_name))
        if member.refused:
            found.skip(file_name, member.refused)
            continue
        parent = folders[-1] if folders else ""
        found.add(SourceFile((str(number), *folders), parent, file_name, member.info.file_size, member.opener(archive)))
    if doubtful:
        names = shorten_list(doubtful)
        found.notes.append(
            Text(
                f"Names in {clean_name(name)} are in an unknown encoding and were guessed: {names}.",
                f"{clean_name(name)} の中のファイル名は文字コードが不明なため推定しました: {names}。",
            )
        )
