"""Import: files, folders and zips become one data set; what cannot be used is left out by name, with a reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from sdlora.core.errors import BadInput
from sdlora.core.files import sha256_of
from sdlora.core.text import Text
from sdlora.data import image_formats, limits
from sdlora.data.caption_files import Captions, pair_captions
from sdlora.data.dataset import Dataset, Item
from sdlora.data.decode.decoder import DecodedImage, Decoder
from sdlora.data.layouts import Layout, arrange
from sdlora.data.limits import Refusal
from sdlora.data.names import clean_name, natural_sort_key, shorten_list, stem
from sdlora.data.sources import ByteBudget, SourceFile, SourceFiles, Upload, collect, read_chunks
from sdlora.data.store import PICTURES, describe, publish, temporary_dataset

CHANGES = {  # what decoding changed, by its code in `Decoded.notes`
    "frames": Text("only the first frame or page was taken", "最初のコマ (ページ) だけを使いました"),
    "cmyk": Text(
        "print colours (CMYK) were turned into screen colours", "印刷用の色 (CMYK) を画面用の色に変換しました"
    ),
    "grey16": Text(
        "16-bit or finer grey was scaled to 8 bits", "16 ビット以上のグレースケールを 8 ビットに変換しました"
    ),
    "alpha": Text(
        "transparent parts are white now; `data.masks` leaves them out of training",
        "透明な部分を白にしました。`data.masks` で学習から除外できます",
    ),
    "mask": Text(
        "left out as a mask: it is no picture, or of another shape than its picture",
        "マスクとして使えません (画像ではないか、元の画像と縦横比が違います)",
    ),
}
MASK_TOLERANCE = 0.02  # by which a mask's aspect ratio may differ from its picture's


@dataclass
class _Import:
    """The state of one import."""

    folder: Path
    decoder: Decoder
    captions: Captions
    budget: ByteBudget
    masks: dict[SourceFile, SourceFile]  # picture -> the mask drawn for it
    changes: dict[str, list[str]] = field(default_factory=dict)

    def add_picture(self, file: SourceFile) -> Item:
        """Decode one picture into the data set's folder. Raises Refusal."""
        decoded = self._decode(file)
        path, mask = self._store(".decoded"), self._store(".mask") if (self.folder / ".mask").exists() else ""
        for note in decoded.notes:
            self.changes.setdefault(note, []).append(file.title)
        if drawn := self.masks.get(file):
            mask = self._drawn_mask(drawn, decoded) or mask
        caption = self.captions.by_picture.get(file, "")
        return Item(file.title, path, Path(path).stem, decoded.width, decoded.height, caption, mask)

    def _drawn_mask(self, file: SourceFile, picture: DecodedImage) -> str:
        """A mask's path in the data set; "" and a note where it is not a picture of the same shape."""
        try:
            mask = self._decode(file)
            if abs(mask.width * picture.height / (mask.height * picture.width) - 1) < MASK_TOLERANCE:
                return self._store(".decoded")
        except Refusal:
            pass
        self.changes.setdefault("mask", []).append(file.title)
        return ""

    def _decode(self, file: SourceFile) -> DecodedImage:
        """Decode into `.decoded`, and the alpha channel into `.mask` where the picture is transparent anywhere."""
        raw, mask = self.folder / ".raw", self.folder / ".mask"
        with open(raw, "wb") as target:
            for chunk in read_chunks(file, limits.PICTURE_BYTES, self.budget):
                target.write(chunk)
        mask.unlink(missing_ok=True)
        result = self.decoder.decode(raw, self.folder / ".decoded", mask)
        raw.unlink()
        return result

    def _store(self, name: str) -> str:
        """Move a decoded file into the data set's pictures, named by its sha256; returns the path inside the data set."""
        file = self.folder / name
        _sync(file)
        path = f"{PICTURES}/{sha256_of(file)}.png"
        file.replace(self.folder / path)
        return path

    def notes(self) -> list[Text]:
        notes = []
        for code, change in CHANGES.items():
            if names := self.changes.get(code):
                notes.append(Text(f"{shorten_list(names)}: {change.en}.", f"{shorten_list(names)}: {change.ja}。"))
        return notes


def import_pictures(
    sources: Sequence[Path | Upload],
    datasets: Path,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    maximum: limits.ImportLimits = limits.UPLOAD,
) -> Dataset:
    """Import picture files, caption files, folders and zips into `datasets`/<id>.

    `progress(done, total)` counts pictures. The same content again is the same data set: the one on disk is kept, and the returned
    one tells what was skipped and noted this time.

    Raises:
        BadInput: an unsafe or damaged zip, too much of anything, or no usable picture. Nothing is left behind.
        DiskFull: likewise.
    """
    budget = ByteBudget(maximum)
    with ExitStack() as stack:
        found = collect(sources, stack, maximum)
        layout = arrange(found.pictures)
        _leave_out(found, layout)
        pictures = sorted(layout.pictures, key=_display_order)
        _check_count(len(pictures), maximum.pictures)
        captions = pair_captions(found, pictures, lambda file, limit: b"".join(read_chunks(file, limit, budget)))
        temporary = stack.enter_context(temporary_dataset(datasets))
        job = _Import(temporary, stack.enter_context(Decoder()), captions, budget, layout.masks)
        items = _add_pictures(job, pictures, found, progress)
        if not items:
            raise _nothing_usable(len(pictures), found)
        dataset = describe(_dataset_name(sources, name), items, datasets)
        notes = (*job.notes(), *found.notes, *layout.notes, *captions.notes)
        dataset = replace(dataset, folder=datasets / dataset.id, skipped=tuple(found.skipped), notes=notes)
        for file in (".raw", ".decoded", ".mask"):
            (temporary / file).unlink(missing_ok=True)
        stored = publish(temporary, dataset)
    return stored if stored is dataset else _note_existing(stored, dataset)


def _leave_out(found: SourceFiles, layout: Layout) -> None:
    """List excluded pictures as skipped, and forget the captions that lie among them alone."""
    groups: dict[Text, list[SourceFile]] = {}
    for file, reason in layout.excluded:
        found.skip(file.name, reason)
        groups.setdefault(reason, []).append(file)
    for reason, files in groups.items():
        names = shorten_list([file.title for file in files])
        found.notes.append(
            Text(f"Left out: {len(files)} ({names}). {reason.en}", f"除外: {len(files)} 個 ({names})。{reason.ja}")
        )
    excluded = {file.folders for file, _ in layout.excluded} - {file.folders for file in layout.pictures}
    found.captions = [file for file in found.captions if file.folders not in excluded]
    found.tables = [file for file in found.tables if file.folders not in excluded]


def _add_pictures(
    job: _Import, pictures: Sequence[SourceFile], found: SourceFiles, progress: Callable[[int, int], None] | None
) -> list[Item]:
    items = []
    for done, file in enumerate(pictures):
        if progress:
            progress(done, len(pictures))
        try:
            items.append(job.add_picture(file))
        except Refusal as refusal:
            found.skip(file.name, refusal.text)
    if progress:
        progress(len(pictures), len(pictures))
    return items


def _display_order(file: SourceFile) -> tuple:
    """As a person counts, by folder then name: independent of the order in a zip or of an upload."""
    return ([natural_sort_key(folder) for folder in file.folders[1:]], natural_sort_key(file.name), file.folders[0])


def _check_count(count: int, limit: int) -> None:
    if count <= limit:
        return
    upload = limit == limits.UPLOAD.pictures
    also_en = f" A folder of up to {limits.LOCAL_FOLDER.pictures:,} can be added on the command line." if upload else ""
    also_ja = (
        f"コマンドラインからは、フォルダーで {limits.LOCAL_FOLDER.pictures:,} 枚まで追加できます。" if upload else ""
    )
    raise BadInput(
        Text(
            f"There are {count:,} pictures; a data set holds at most {limit:,} here. Divide them.{also_en}",
            f"画像が {count:,} 枚あります。ここでは 1 つのデータセットは {limit:,} 枚までです。分けてください。{also_ja}",
        )
    )


def _nothing_usable(pictures: int, found: SourceFiles) -> BadInput:
    """With counts and the three most frequent reasons; all pictures are among the skipped then."""
    if not found.skipped:
        return BadInput(
            Text(
                f"There are 0 pictures in what was given. Add pictures as {image_formats.TITLES}.",
                f"画像が 0 枚です。{image_formats.TITLES} のいずれかのファイルを追加してください。",
            )
        )
    others = len(found.skipped) - pictures
    names: dict[Text, list[str]] = {}
    for one in found.skipped:
        names.setdefault(one.reason, []).append(one.name)
    worst = sorted(names.items(), key=lambda pair: -len(pair[1]))[:3]
    why_en = " ".join(f"{shorten_list(those)}: {reason.en}" for reason, those in worst)
    why_ja = " ".join(f"{shorten_list(those)}: {reason.ja}" for reason, those in worst)
    return BadInput(
        Text(
            f"Usable pictures: 0 of {pictures}. Other files left out: {others}. {why_en}",
            f"使える画像は {pictures} 枚中 0 枚でした。ほかに除外したファイルは {others} 個です。{why_ja}",
        )
    )


def _note_existing(stored: Dataset, imported: Dataset) -> Dataset:
    note = Text(
        f"The same pictures and captions are there already, as “{stored.name}”.",
        f"同じ画像とキャプションが「{stored.name}」としてすでにあります。",
    )
    return replace(stored, skipped=imported.skipped, notes=(*imported.notes, note))


def _dataset_name(sources: Sequence[Path | Upload], name: str | None) -> str:
    if name and name.strip():
        return clean_name(name.replace("/", "-").replace("\\", "-"))
    first = sources[0]
    shown = first.resolve().name if isinstance(first, Path) and first.is_dir() else stem(first.name)
    return clean_name(shown if len(sources) == 1 else f"{shown} +{len(sources) - 1}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
