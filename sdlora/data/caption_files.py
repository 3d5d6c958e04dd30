"""Which caption belongs to which picture: a text file of its name, a row of a table, a folder named as for kohya's trainers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sdlora.core.text import Text
from sdlora.data import limits
from sdlora.data.caption_tables import CAPTION_TOO_LONG, NO_CAPTIONS, Table, caption_of_json, read_table
from sdlora.data.captions import clean_caption
from sdlora.data.layouts import folder_captions
from sdlora.data.limits import Refusal
from sdlora.data.names import clean_name, exact_key, folded_key, shorten_list, stem, suffix
from sdlora.data.sources import SourceFile, SourceFiles
from sdlora.data.table_rows import PictureIndex
from sdlora.data.text_decoding import decode_text

Read = Callable[[SourceFile, int], bytes]
PRIORITY = {".txt": 0, ".caption": 1, ".captions": 2, ".tags": 3, ".json": 4}
# Text files that may be tables where no picture has their name.
TABLE_STEMS = frozenset({"metadata", "caption", "captions", "prompts", "labels", "descriptions"})


@dataclass(frozen=True, eq=False)
class _CaptionFile:
    file: SourceFile
    caption: str


@dataclass
class Captions:
    """A caption for each picture that has one, and what a person should know about how they were found."""

    by_picture: dict[SourceFile, str] = field(default_factory=dict)
    notes: list[Text] = field(default_factory=list)


def pair_captions(found: SourceFiles, pictures: Sequence[SourceFile], read: Read) -> Captions:
    """Read all caption files and tables in `found`; those that cannot be used are added to what was skipped."""
    captions, guesses = Captions(), list[tuple[str, str]]()
    stems = {folded_key(stem(picture.name)) for picture in pictures}
    files, tables = _read_files(found, stems, read, guesses)
    _pair_files(captions, pictures, files)
    index = PictureIndex(pictures)
    for file, table in tables:
        _pair_rows(captions, found, file, table, index)
    _pair_folders(captions, pictures)
    captions.notes[:0] = _guess_notes(guesses)
    return captions


def _read_files(
    found: SourceFiles, stems: set[str], read: Read, guesses: list[tuple[str, str]]
) -> tuple[list[_CaptionFile], list[tuple[SourceFile, Table]]]:
    """All text files as captions or tables. `guesses` gets the names and texts of those in an uncertain encoding."""
    files: list[_CaptionFile] = []
    tables: list[tuple[SourceFile, Table]] = []
    for file in sorted((*found.captions, *found.tables), key=_reading_order):
        has_picture = folded_key(stem(file.name)) in stems
        is_table = file in found.tables or (not has_picture and folded_key(stem(file.name)) in TABLE_STEMS)
        try:
            decoded = decode_text(read(file, limits.TABLE_BYTES if is_table else limits.CAPTION_BYTES))
            if not decoded.certain:
                guesses.append((f"{file.title} ({decoded.encoding})", clean_caption(decoded.text)))
            own = caption_of_json(decoded.text) if has_picture and suffix(file.name) == ".json" else None
            if own is not None and len(own.encode("utf-8", "replace")) > limits.CAPTION_BYTES:
                raise Refusal(CAPTION_TOO_LONG)
            if own is not None or not is_table:
                files.append(_CaptionFile(file, clean_caption(decoded.text if own is None else own)))
            else:
                tables.append((file, read_table(file.name, decoded.text)))
        except Refusal as refusal:
            found.skip(file.name, refusal.text)
    return files, tables


def _reading_order(file: SourceFile) -> tuple:
    ending = suffix(file.name)
    return (PRIORITY.get(ending, 5), ending != ".jsonl", file.folders, file.name)


# --- files beside pictures ---


def _pair_files(captions: Captions, pictures: Sequence[SourceFile], files: Sequence[_CaptionFile]) -> None:
    """Exact names first, then without case: `Sun.txt` is not a caption of `sun.png` where `sun.txt` or `Sun.png` is there."""
    index = _FileIndex(files, pictures)
    candidates = {picture: found for picture in pictures if (found := index.of(picture))}
    unclear = {picture: found for picture, found in candidates.items() if _contradict_under_one_name(found)}
    chosen = {picture: found[0] for picture, found in candidates.items() if picture not in unclear}
    captions.by_picture.update({picture: one.caption for picture, one in chosen.items()})
    users: dict[_CaptionFile, list[SourceFile]] = defaultdict(list)
    for picture, one in chosen.items():
        users[one].append(picture)
    captions.notes.extend(_unclear_notes(unclear))
    for picture, one in chosen.items():
        rivals = [other for other in candidates[picture][1:] if other not in users and other.caption != one.caption]
        if rivals:
            captions.notes.append(_rivals_note(picture, one, rivals))
    captions.notes.extend(_shared_note(one.file.title, by) for one, by in users.items() if len(by) > 1)
    in_use = {one for found in candidates.values() for one in found}
    left = [one.file.title for one in files if one not in in_use]
    if left:
        shown = shorten_list(left)
        captions.notes.append(
            Text(
                f"Caption files without a picture: {len(left)} ({shown}).",
                f"対応する画像がないキャプションファイルが {len(left)} 個あります ({shown})。",
            )
        )


def _contradict_under_one_name(found: list[_CaptionFile]) -> bool:
    """Whether two files of the best one's very name say different things, as uploads out of two folders do."""
    best, *others = found
    return any(exact_key(o.file.name) == exact_key(best.file.name) and o.caption != best.caption for o in others)


class _FileIndex:
    """Caption files by folder and by the name that they caption."""

    def __init__(self, files: Sequence[_CaptionFile], pictures: Sequence[SourceFile]):
        self._exact: dict[tuple, list[_CaptionFile]] = defaultdict(list)
        self._folded: dict[tuple, list[_CaptionFile]] = defaultdict(list)
        own = {(_folder_key(p), name) for p in pictures for name in (exact_key(p.name), exact_key(stem(p.name)))}
        for one in files:
            folder, name = _folder_key(one.file), stem(one.file.name)
            self._exact[folder, exact_key(name)].append(one)
            if (folder, exact_key(name)) not in own:
                self._folded[folder, folded_key(name)].append(one)

    def of(self, picture: SourceFile) -> list[_CaptionFile]:
        """All that may be its caption, the best first: `a.png.txt` before `a.txt` for `a.png`."""
        folder, name = _folder_key(picture), picture.name
        whole = (*self._exact[folder, exact_key(name)], *self._folded[folder, folded_key(name)])
        by_stem = (*self._exact[folder, exact_key(stem(name))], *self._folded[folder, folded_key(stem(name))])
        return list(dict.fromkeys((*_by_suffix(whole), *_by_suffix(by_stem))))


def _by_suffix(files: Sequence[_CaptionFile]) -> list[_CaptionFile]:
    """`.txt` before `.caption`; files of one suffix stay in order."""
    return sorted(files, key=lambda one: PRIORITY.get(suffix(one.file.name), len(PRIORITY)))


def _folder_key(file: SourceFile) -> tuple[str, ...]:
    return tuple(exact_key(folder) for folder in file.folders)


def _unclear_notes(unclear: dict[SourceFile, list[_CaptionFile]]) -> list[Text]:
    pictures: dict[str, list[str]] = defaultdict(list)
    for picture, found in unclear.items():
        pictures[found[0].file.title].append(picture.title)
    return [
        Text(
            f"Several files are called {name}, with different captions: which belongs to which picture ({shorten_list(titles)}) cannot be told, so none was used. Give the files different names, or add them as folders.",
            f"{name} という名前のファイルが複数あり、内容が異なります。どの画像 ({shorten_list(titles)}) のものか判断できないため使いませんでした。別々の名前にするか、フォルダーごと追加してください。",
        )
        for name, titles in pictures.items()
    ]


def _rivals_note(picture: SourceFile, used: _CaptionFile, rivals: list[_CaptionFile]) -> Text:
    names = shorten_list([one.file.title for one in rivals])
    return Text(
        f"Several captions for {picture.title}: {used.file.title} was used, {names} not.",
        f"{picture.title} のキャプションが複数あります。{used.file.title} を使い、{names} は使いませんでした。",
    )


def _shared_note(name: str, pictures: list[SourceFile]) -> Text:
    names = shorten_list([picture.title for picture in pictures])
    return Text(
        f"One caption for several pictures: that of {name} is used for {names}.",
        f"1 つのキャプションに複数の画像があります。{name} のものを {names} に使いました。",
    )


# --- tables ---


def _pair_rows(captions: Captions, found: SourceFiles, file: SourceFile, table: Table, index: PictureIndex) -> None:
    from_table: dict[SourceFile, str] = {}
    unused, ambiguous, contradictory = 0, list[str](), list[str]()
    for row in table.rows:
        too_long = len(row.caption.encode("utf-8", "replace")) > limits.CAPTION_BYTES
        if too_long or ".." in row.file_name.replace("\\", "/").split("/"):
            table.add(None, f"{row.file_name}: {row.caption}")
            continue
        pictures, caption = index.find(row.file_name, file.folders), clean_caption(row.caption)
        if len({(picture.folders, exact_key(stem(picture.name))) for picture in pictures}) > 1 or (
            len({exact_key(picture.name) for picture in pictures}) < len(pictures)
        ):
            ambiguous.append(clean_name(row.file_name))
            continue
        if len(pictures) > 1:
            captions.notes.append(_shared_note(f"{file.title}, “{clean_name(row.file_name)}”", pictures))
        unused += all(picture in captions.by_picture for picture in pictures)
        contradictory += [p.title for p in pictures if from_table.setdefault(p, caption) != caption]
    if not from_table and not _is_called_metadata(file):
        found.skip(file.name, NO_CAPTIONS)
        return
    for picture, caption in from_table.items():
        captions.by_picture.setdefault(picture, caption)
    captions.notes.extend(_table_notes(file.title, table, unused, ambiguous, contradictory))


def _is_called_metadata(file: SourceFile) -> bool:
    """A file that says that it is a table of captions is not left out for having no use."""
    return folded_key(stem(file.name)) in TABLE_STEMS


def _table_notes(name: str, table: Table, unused: int, ambiguous: list[str], contradictory: list[str]) -> list[Text]:
    notes = []
    if table.misread_count:
        shown = " · ".join(f"“{text}”" for text in table.misread)
        notes.append(
            Text(
                f"Lines of {name} that cannot be used: {table.misread_count} (each needs file_name and text): {shown}",
                f"{name} の {table.misread_count} 行は使えませんでした。各行に file_name と text が必要です: {shown}",
            )
        )
    if unused:
        notes.append(
            Text(
                f"Lines of {name} without use: {unused} (no such picture, or it has a caption file).",
                f"{name} の {unused} 行は、画像がない、またはキャプションファイルがあるため使いませんでした。",
            )
        )
    if ambiguous:
        notes.append(
            Text(
                f"Lines of {name} that fit several pictures and were not used: {shorten_list(ambiguous)}. Write the folder before the name.",
                f"{name} の次の行は複数の画像に当てはまるため使いませんでした: {shorten_list(ambiguous)}。名前の前にフォルダーを書いてください。",
            )
        )
    if contradictory:
        names = shorten_list(list(dict.fromkeys(contradictory)))
        notes.append(
            Text(
                f"{name} has several captions for {names}; the first was used.",
                f"{name} には {names} のキャプションが複数あります。最初のものを使いました。",
            )
        )
    return notes


# --- kohya's folders ---


def _pair_folders(captions: Captions, pictures: Sequence[SourceFile]) -> None:
    by_folder, doubtful = folder_captions(pictures)
    used: dict[str, int] = defaultdict(int)
    questions: dict[str, int] = defaultdict(int)
    for picture in pictures:
        if picture in captions.by_picture:
            continue
        name = exact_key(picture.parent)
        if name in by_folder:
            captions.by_picture[picture] = clean_caption(by_folder[name].caption)
            used[name] += 1
        elif name in doubtful:
            questions[name] += 1
    for name, count in used.items():
        caption = by_folder[name].caption
        captions.notes.append(
            Text(
                f"{count} captions come from the name of the folder “{clean_name(name)}”: “{clean_caption(caption)}”.",
                f"{count} 枚のキャプションはフォルダー名「{clean_name(name)}」から付けました: 「{clean_caption(caption)}」。",
            )
        )
    for name, count in questions.items():
        caption = clean_caption(doubtful[name])
        captions.notes.append(
            Text(
                f"The number before “{caption}” in the folder's name “{clean_name(name)}” looks like a date or an order, so it did not become the caption of {count} pictures. If it should, write it into their captions.",
                f"フォルダー名「{clean_name(name)}」の数字は日付か順番のようなので、「{caption}」を {count} 枚のキャプションにはしませんでした。必要ならキャプションに書いてください。",
            )
        )
    repeats = {folder.repeats for folder in by_folder.values()}
    if len(repeats) > 1:
        captions.notes.append(
            Text(
                "The folders ask for different numbers of repeats; here every picture is shown equally often.",
                "フォルダー名の繰り返し回数が異なりますが、ここではすべての画像を同じ回数だけ学習します。",
            )
        )


def _guess_notes(guesses: list[tuple[str, str]]) -> list[Text]:
    """Texts in an unknown encoding, shown as they were read."""
    if not guesses:
        return []
    shown = " · ".join(f"{name} “{text if len(text) <= 60 else text[:59] + '…'}”" for name, text in guesses[:3])
    more = f" (+{len(guesses) - 3})" if len(guesses) > 3 else ""
    return [
        Text(
            f"Unknown text encoding, guessed: {shown}{more}. Check these captions; UTF-8 is best.",
            f"文字コードが不明なため推定しました: {shown}{more}。キャプションを確認してください (UTF-8 を推奨します)。",
        )
    ]
