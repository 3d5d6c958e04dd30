"""Folder conventions of other trainers: masks, regularisation pictures, samples of the last run, kohya's `10_name` folders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sdlora.core.text import Text
from sdlora.data.names import clean_name, exact_key, folded_key, shorten_list, stem
from sdlora.data.sources import SourceFile

MASK_FOLDERS = frozenset({"mask", "masks", "mask_images", "マスク"})
CONTROL_FOLDERS = frozenset(
    {"control", "controls", "conditioning", "conditioning_images", "conditioning_data", "control_images"}
)
CLASS_FOLDERS = frozenset(
    (
        *("reg", "regs", "reg_data", "reg_images", "regularization", "regularization_images", "regularisation"),
        *("regularisation_images", "class_images", "正則化", "正則化画像"),
    )
)
SAMPLE_FOLDERS = frozenset({"sample", "samples", "sample_images"})
MASK_STEM = re.compile(r"(.+)(?:[-_.]masklabel|[-_.]mask)", re.IGNORECASE)  # OneTrainer, rembg and others
CONTROL_STEM = re.compile(r"(.+)[-_.]condlabel", re.IGNORECASE)  # OneTrainer
NUMBERED = re.compile(r"([0-9]{1,8})_(.*\S.*)")
MAX_REPEATS = 999  # a larger number before a folder's name is a date or an order number

CLASS_PICTURES = Text(
    "It lies in a folder of regularisation pictures. These are not trained here; `train.prior_weight` does without them.",
    "正則化画像のフォルダーにあります。ここでは学習に使いません(`train.prior_weight` には正則化画像は不要です)。",
)
SAMPLE_PICTURES = Text(
    "It lies in a folder of samples: pictures that a training drew are not trained again. Rename the folder if they are your own.",
    "サンプルのフォルダーにあります。学習中に生成された画像は学習に使いません。ご自身の画像ならフォルダー名を変えてください。",
)
CONTROL_PICTURES = Text(
    "It is a condition picture of another picture in the set (control, conditioning). These are not used here.",
    "セット内の別の画像の条件画像 (control・conditioning) です。ここでは使いません。",
)
LONE_MASK = Text(
    "It lies in a folder of masks, but no picture, or more than one, has its name.",
    "マスクのフォルダーにありますが、同じ名前の画像がないか、複数あります。",
)


@dataclass
class Layout:
    """The pictures to train on, the masks drawn for them, and what was left out."""

    pictures: list[SourceFile] = field(default_factory=list)
    masks: dict[SourceFile, SourceFile] = field(default_factory=dict)  # picture -> its mask
    excluded: list[tuple[SourceFile, Text]] = field(default_factory=list)
    notes: list[Text] = field(default_factory=list)


def arrange(files: Sequence[SourceFile]) -> Layout:
    """Tell pictures from masks and from pictures that are not to be learned, by their folders' and their own names.

    A convention counts only below a folder that holds other pictures too: whoever gives the folder `samples` alone means its pictures.
    """
    layout = Layout()
    below = {file: _folders_below_common(file, depth) for file, depth in zip(files, _common_depths(files), strict=True)}
    for file in files:
        reason = _exclusion(below[file])
        if reason:
            layout.excluded.append((file, reason))
    if len(layout.excluded) == len(files):
        return Layout(pictures=list(files))
    excluded = {file for file, _ in layout.excluded}
    rest = [file for file in files if file not in excluded]
    in_mask_folder = {file for file in rest if _index_of(below[file], MASK_FOLDERS) is not None}
    in_control_folder = {file for file in rest if _index_of(below[file], CONTROL_FOLDERS) is not None}
    pictures = [file for file in rest if file not in in_mask_folder and file not in in_control_folder]
    if not pictures:
        return Layout(pictures=rest, excluded=layout.excluded)
    layout.pictures = _named_masks(pictures, layout)
    _folder_masks([file for file in rest if file in in_mask_folder], below, layout)
    _folder_controls([file for file in rest if file in in_control_folder], layout)
    _note_exclusions(layout)
    return layout


def _common_depths(files: Sequence[SourceFile]) -> list[int]:
    """For each file, how many leading folders all files of its source share; 0 for loose files out of one folder."""
    parents = {file.parent for file in files if not file.folders[0]}
    shared: dict[str, tuple[str, ...]] = {}
    for file in files:
        folders = shared.setdefault(file.folders[0], file.folders)
        while file.folders[: len(folders)] != folders:
            folders = folders[:-1]
        shared[file.folders[0]] = folders
    return [len(shared[file.folders[0]]) if file.folders[0] or len(parents) > 1 else 0 for file in files]


def _folders_below_common(file: SourceFile, depth: int) -> tuple[str, ...]:
    """In the form that folders' names are compared in. A loose file has none but the one it came from."""
    folders = file.folders[depth:] if file.folders[0] else (file.parent,) if depth else ()
    return tuple(folded_key(folder).replace(" ", "_").replace("-", "_") for folder in folders)


def _index_of(folders: tuple[str, ...], names: frozenset[str]) -> int | None:
    return next((index for index, folder in enumerate(folders) if folder in names), None)


def _exclusion(folders: tuple[str, ...]) -> Text | None:
    if _index_of(folders, CLASS_FOLDERS) is not None:
        return CLASS_PICTURES
    return SAMPLE_PICTURES if _index_of(folders, SAMPLE_FOLDERS) is not None else None


def _named_masks(pictures: Sequence[SourceFile], layout: Layout) -> list[SourceFile]:
    """Take `a-masklabel.png` beside `a.jpg` for its mask, `a-condlabel.png` out. Returns the others."""
    by_stem: dict[tuple, list[SourceFile]] = defaultdict(list)
    for file in pictures:
        by_stem[file.folders, folded_key(stem(file.name))].append(file)
    others = []
    for file in pictures:
        name = stem(file.name)
        if (match := MASK_STEM.fullmatch(name)) and (homes := by_stem.get((file.folders, folded_key(match[1])))):
            _give_mask(file, homes, layout)
        elif (match := CONTROL_STEM.fullmatch(name)) and (file.folders, folded_key(match[1])) in by_stem:
            layout.excluded.append((file, CONTROL_PICTURES))
        else:
            others.append(file)
    return others


def _folder_masks(masks: Sequence[SourceFile], below: dict[SourceFile, tuple[str, ...]], layout: Layout) -> None:
    """Give each file in a folder of masks to the picture of its name: in the folder above, or anywhere beside the folder of masks."""
    index = _by_name(layout.pictures)
    unmatched: dict[tuple[str, ...], list[SourceFile]] = defaultdict(list)
    matched: set[tuple[str, ...]] = set()
    for mask in masks:
        position = _index_of(below[mask], MASK_FOLDERS)
        assert position is not None
        cut = len(mask.folders) - len(below[mask]) + position if mask.folders[0] else len(mask.folders)
        home, inner = mask.folders[:cut], mask.folders[cut + 1 :]
        pictures = _pictures_of(mask, home, inner, index)
        if pictures:
            matched.add(mask.folders[: cut + 1])
            _give_mask(mask, pictures, layout)
        else:
            unmatched[mask.folders[: cut + 1]].append(mask)
    for folder, files in unmatched.items():
        if folder in matched:
            layout.excluded.extend((file, LONE_MASK) for file in files)
            continue
        layout.pictures.extend(files)
        shown = clean_name(folder[-1]) if folder[0] else files[0].parent
        names = shorten_list([file.title for file in files])
        layout.notes.append(
            Text(
                f"{len(files)} files in the folder “{shown}” were taken as pictures, not as masks, because none has the name of a picture: {names}.",
                f"フォルダー「{shown}」の {len(files)} 個のファイルは、同じ名前の画像がないため、マスクではなく画像として読み込みました: {names}。",
            )
        )


def _by_name(pictures: Sequence[SourceFile]) -> list[dict[str, list[SourceFile]]]:
    """Pictures by exact name, exact stem, name and stem without case."""
    keys = (
        lambda name: exact_key(name),
        lambda name: exact_key(stem(name)),
        lambda name: folded_key(name),
        lambda name: folded_key(stem(name)),
    )
    indexes: list[dict[str, list[SourceFile]]] = []
    for make_key in keys:
        index: dict[str, list[SourceFile]] = defaultdict(list)
        for picture in pictures:
            index[make_key(picture.name)].append(picture)
        indexes.append(index)
    return indexes


def _pictures_of(
    mask: SourceFile, home: tuple[str, ...], inner: tuple[str, ...], index: list[dict[str, list[SourceFile]]]
) -> list[SourceFile]:
    """The pictures that a mask belongs to: of the nearest name, in the same subfolder if there is one. Empty where they lie in several."""
    name = stem(mask.name)
    names = [name, match[1]] if (match := MASK_STEM.fullmatch(name)) else [name]
    wanted = [
        (0, exact_key(mask.name)),
        *((1, exact_key(one)) for one in names),
        (2, folded_key(mask.name)),
        *((3, folded_key(one)) for one in names),
    ]
    for same_folder in (True, False):
        for level, key in wanted:
            candidates = [p for p in index[level].get(key, ()) if p.folders[: len(home)] == home]
            if same_folder:
                candidates = [p for p in candidates if p.folders == home + inner]
            elif inner:
                nested = [p for p in candidates if p.folders[-len(inner) :] == inner]
                candidates = nested or candidates
            if candidates:
                return candidates if len({p.folders for p in candidates}) == 1 else []
    return []


def _give_mask(mask: SourceFile, pictures: Sequence[SourceFile], layout: Layout) -> None:
    """Of several pictures of one name, the one that the mask is called after exactly has it; else all have it. Both are said."""
    for picture in pictures:
        if picture in layout.masks:
            layout.excluded.append((mask, LONE_MASK))
            layout.notes.append(
                Text(
                    f"Two masks for {picture.title}: {layout.masks[picture].title} is used, {mask.title} is not.",
                    f"{picture.title} にマスクが 2 つあります。{layout.masks[picture].title} を使い、{mask.title} は使いません。",
                )
            )
            return
    layout.masks.update(dict.fromkeys(pictures, mask))
    if len(pictures) > 1:
        names = shorten_list([picture.title for picture in pictures])
        layout.notes.append(
            Text(
                f"One mask for several pictures: {mask.title} is used for {names}.",
                f"1 つのマスクに複数の画像があります。{mask.title} を {names} に使います。",
            )
        )


def _folder_controls(controls: Sequence[SourceFile], layout: Layout) -> None:
    """Leave files in a folder of condition pictures out where one of them has the name of a picture; else they are pictures."""
    stems = {folded_key(stem(picture.name)) for picture in layout.pictures}
    if any(folded_key(stem(control.name)) in stems for control in controls):
        layout.excluded.extend((control, CONTROL_PICTURES) for control in controls)
    else:
        layout.pictures.extend(controls)


def _note_exclusions(layout: Layout) -> None:
    """Who has no mask because another picture is called exactly as it, and how many files each rule left out."""
    masked = {(picture.folders, folded_key(stem(picture.name))): picture for picture in layout.masks}
    for picture in layout.pictures:
        twin = masked.get((picture.folders, folded_key(stem(picture.name))))
        if twin and picture not in layout.masks:
            mask = layout.masks[twin].title
            layout.notes.append(
                Text(
                    f"The mask {mask} is used for {twin.title}, whose name it has; {picture.title} has none.",
                    f"マスク {mask} は同名の {twin.title} に使います。{picture.title} にはマスクがありません。",
                )
            )
    if layout.masks:
        layout.notes.append(
            Text(
                f"Pictures with a mask: {len(layout.masks)}. `data.masks` makes the training use it.",
                f"マスクのある画像: {len(layout.masks)} 枚。`data.masks` をオンにすると学習で使います。",
            )
        )


# --- kohya's folders ---


@dataclass(frozen=True)
class FolderCaption:
    """What `10_sks dog` says: each picture 10 times, caption "sks dog"."""

    repeats: int
    caption: str


def folder_captions(files: Iterable[SourceFile]) -> tuple[dict[str, FolderCaption], dict[str, str]]:
    """By a folder's name: what it says as kohya's trainers read it, and the captions of those that are more likely years or an order.

    A number is not taken for repeats where it begins with 0, is a year or larger than 999, or counts folders beside each other: 1, 2, 3.
    """
    siblings: dict[tuple[str, ...], set[int]] = defaultdict(set)
    matches: dict[tuple[tuple[str, ...], str], re.Match[str]] = {}
    for file in files:
        name = exact_key(file.parent)
        if match := NUMBERED.fullmatch(name):
            above = file.folders[:-1] if file.folders[0] else ()
            siblings[above].add(int(match[1]))
            matches[above, name] = match
    captions: dict[str, FolderCaption] = {}
    doubtful: dict[str, str] = {}
    for (above, name), match in matches.items():
        number = int(match[1])
        numbers = siblings[above]
        counts = (
            len(numbers) > 1 and numbers == set(range(min(numbers), min(numbers) + len(numbers))) and min(numbers) <= 1
        )
        if match[1].startswith("0") or number > MAX_REPEATS or counts:
            doubtful[name] = match[2]
        else:
            captions[name] = FolderCaption(number, match[2])
    return captions, doubtful
