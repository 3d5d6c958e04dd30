"""Import: files, folders and zips become one data set, or a sentence why not. One bad picture does not stop the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from sdlora.core.errors import BadInput
from sdlora.core.files import sha256_of
from sdlora.core.text import Text
from sdlora.data import limits
from sdlora.data.caption_files import Captions, keyed, read_captions, repeats_of, some
from sdlora.data.dataset import Dataset, Item
from sdlora.data.decode.decoder import Decoded, Decoder
from sdlora.data.limits import Refusal
from sdlora.data.sources import Budget, Entry, Found, chunks, collect
from sdlora.data.store import PICTURES, building, describe, publish
from sdlora.data.text_decoding import clean_name, key, natural, readable, stem_key

CHANGES = {
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
MASKS = frozenset({"masks", "mask"})  # folders beside the pictures; a mask has its picture's name
SHAPE = 0.02  # by which a mask's aspect ratio may differ from its picture's


@dataclass
class _Import:
    """What lives through one import."""

    folder: Path
    decoder: Decoder
    captions: Captions
    budget: Budget
    masks: dict[Entry, Entry]  # picture -> the mask drawn for it
    changes: dict[str, list[str]] = field(default_factory=dict)

    def take(self, entry: Entry) -> Item:
        """One picture into the folder. Raises Refusal."""
        name = clean_name(entry.name)
        result = self._decode(entry)
        path, mask = self._keep(".decoded"), self._keep(".mask") if (self.folder / ".mask").exists() else ""
        for note in result.notes:
            self.changes.setdefault(note, []).append(name)
        if drawn := self.masks.get(entry):
            mask = self._drawn_mask(drawn, result) or mask
        return Item(name, path, Path(path).stem, result.width, result.height, self.captions.of(entry), mask)

    def _drawn_mask(self, entry: Entry, picture: Decoded) -> str:
        """A mask's file in the data set; "" and a note where it is no picture of the same shape."""
        try:
            mask = self._decode(entry)
            if abs(mask.width * picture.height / (mask.height * picture.width) - 1) < SHAPE:
                return self._keep(".decoded")
        except Refusal:
            pass
        self.changes.setdefault("mask", []).append(clean_name(entry.name))
        return ""

    def _decode(self, entry: Entry) -> Decoded:
        """Into `.decoded`, and how opaque it is into `.mask` where that says anything."""
        raw, mask = self.folder / ".raw", self.folder / ".mask"
        with open(raw, "wb") as file:
            for chunk in chunks(entry, limits.PICTURE_BYTES, self.budget):
                file.write(chunk)
        mask.unlink(missing_ok=True)
        result = self.decoder.decode(raw, self.folder / ".decoded", mask)
        raw.unlink()
        return result

    def _keep(self, name: str) -> str:
        """Into the data set's pictures, named by its content."""
        file = self.folder / name
        _sync(file)
        path = f"{PICTURES}/{sha256_of(file)}.png"
        file.replace(self.folder / path)
        return path

    def notes(self) -> list[Text]:
        notes = []
        for code, change in CHANGES.items():
            if names := self.changes.get(code):
                notes.append(Text(f"{some(names)}: {change.en}.", f"{some(names)}: {change.ja}。"))
        return notes


def import_pictures(
    sources: Sequence[Path],
    datasets: Path,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    maximum: limits.ImportLimits = limits.UPLOAD,
) -> Dataset:
    """Import picture files, caption files, folders and zips into `datasets`/<id>.

    `progress(done, of)` counts pictures. The same content again is the same data set: the one on disk is kept, and what
    is returned tells what was skipped and noted this time. Raises BadInput for an unsafe or damaged zip, for too much
    of anything, and where no picture is usable; DiskFull. Then nothing is left behind.
    """
    sources = [Path(source) for source in sources]
    budget = Budget(maximum)
    with ExitStack() as stack:
        found = collect(sources, stack, maximum)
        masks = _masks(found.pictures)
        drawn = set(masks.values())
        pictures = sorted((p for p in found.pictures if p not in drawn), key=_order)
        _check_count(len(pictures), maximum.pictures)
        captions = read_captions(found, lambda entry, limit: b"".join(chunks(entry, limit, budget)))
        temporary = stack.enter_context(building(datasets))
        job = _Import(temporary, stack.enter_context(Decoder()), captions, budget, masks)
        items = _take_all(job, pictures, found, progress)
        if not items:
            raise _nothing_usable(len(pictures), found)
        notes = (*job.notes(), *captions.notes, *captions.leftovers(), *_repeats(pictures))
        dataset = describe(_name_of(sources, name), items, datasets)
        dataset = replace(dataset, folder=datasets / dataset.id, skipped=tuple(found.skipped), notes=notes)
        (temporary / ".raw").unlink(missing_ok=True)
        (temporary / ".decoded").unlink(missing_ok=True)
        (temporary / ".mask").unlink(missing_ok=True)
        published = publish(temporary, dataset)
    return published if published is dataset else _again(published, dataset)


def _take_all(
    job: _Import, pictures: Sequence[Entry], found: Found, progress: Callable[[int, int], None] | None
) -> list[Item]:
    items = []
    for done, entry in enumerate(pictures):
        if progress:
            progress(done, len(pictures))
        try:
            items.append(job.take(entry))
        except Refusal as refused:
            job.captions.of(entry)  # its caption file has its picture, if a bad one
            found.skip(entry.name, refused.text)
    if progress:
        progress(len(pictures), len(pictures))
    return items


def _masks(pictures: Sequence[Entry]) -> dict[Entry, Entry]:
    """Picture -> its mask: the file of the same name in a folder `masks` beside it. All others are pictures."""
    at_home = {(keyed(p.place), stem_key(p.name)): p for p in pictures if key(p.place[-1]) not in MASKS}
    drawn = [p for p in pictures if key(p.place[-1]) in MASKS]
    return {at_home[home]: p for p in drawn if (home := (keyed(p.place[:-1]), stem_key(p.name))) in at_home}


def _order(entry: Entry) -> tuple:
    """As a person counts, by folder then name: independent of the order in a zip or of an upload."""
    return ([natural(readable(part)) for part in entry.place[1:]], natural(readable(entry.name)), entry.place[0])


def _check_count(count: int, most: int) -> None:
    if count <= most:
        return
    given = most == limits.UPLOAD.pictures
    also_en = f" A folder of up to {limits.LOCAL_FOLDER.pictures:,} can be added on the command line." if given else ""
    also_ja = (
        f"コマンドラインからは、フォルダーで {limits.LOCAL_FOLDER.pictures:,} 枚まで追加できます。" if given else ""
    )
    raise BadInput(
        Text(
            f"There are {count:,} pictures; a data set holds at most {most:,} here. Divide them.{also_en}",
            f"画像が {count:,} 枚あります。ここでは 1 つのデータセットは {most:,} 枚までです。分けてください。{also_ja}",
        )
    )


def _nothing_usable(pictures: int, found: Found) -> BadInput:
    """With counts and the three most frequent reasons. Every picture that was given is among the skipped here."""
    if not found.skipped:
        return BadInput(
            Text(
                "There are 0 pictures in what was given. Add PNG, JPEG, WebP, BMP, GIF or TIFF files.",
                "画像が 0 枚です。PNG, JPEG, WebP, BMP, GIF, TIFF のいずれかのファイルを追加してください。",
            )
        )
    others = len(found.skipped) - pictures
    names: dict[Text, list[str]] = {}
    for one in found.skipped:
        names.setdefault(one.reason, []).append(one.name)
    worst = sorted(names.items(), key=lambda pair: -len(pair[1]))[:3]
    why_en = " ".join(f"{some(those)}: {reason.en}" for reason, those in worst)
    why_ja = " ".join(f"{some(those)}: {reason.ja}" for reason, those in worst)
    return BadInput(
        Text(
            f"Usable pictures: 0 of {pictures}. Other files left out: {others}. {why_en}",
            f"使える画像は {pictures} 枚中 0 枚でした。ほかに除外したファイルは {others} 個です。{why_ja}",
        )
    )


def _repeats(pictures: Sequence[Entry]) -> list[Text]:
    repeats = {repeats_of(entry) for entry in pictures} - {None}
    if len(repeats) < 2:
        return []
    return [
        Text(
            "The folders ask for different numbers of repeats; here every picture is shown equally often.",
            "フォルダー名の繰り返し回数が異なりますが、ここではすべての画像を同じ回数だけ学習します。",
        )
    ]


def _again(existing: Dataset, wanted: Dataset) -> Dataset:
    note = Text(
        f"The same pictures and captions are there already, as “{existing.name}”.",
        f"同じ画像とキャプションが「{existing.name}」としてすでにあります。",
    )
    return replace(existing, skipped=wanted.skipped, notes=(*wanted.notes, note))


def _name_of(sources: Sequence[Path], name: str | None) -> str:
    if name and name.strip():
        return clean_name(name.replace("/", "-").replace("\\", "-"))
    first = sources[0]
    if len(sources) == 1:
        return clean_name(first.resolve().name if first.is_dir() else first.stem)
    return clean_name(f"{first.stem} +{len(sources) - 1}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
