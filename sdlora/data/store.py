"""Data sets on disk: built in a temporary folder, renamed into place, opened, copied by hard links, deleted."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sdlora.core.errors import BadInput, DiskFull
from sdlora.core.files import link_or_copy, read_json, sha256_of, sync_folder, write_json
from sdlora.core.text import Text
from sdlora.data import limits
from sdlora.data.captions import clean_caption
from sdlora.data.dataset import Dataset, Item, content_id, from_json, to_json
from sdlora.data.names import clean_name

MANIFEST = "dataset.json"
PICTURES = "pictures"
BUILDING, DELETED = ".import-", ".deleted-"


def open_dataset(folder: Path) -> Dataset:
    """Raises BadInput where there is no data set, or one that is damaged. Pictures are looked for, not read: `verify`."""
    name = clean_name(folder.name)
    try:
        dataset = from_json(read_json(folder / MANIFEST), folder)
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(
            Text(
                f"There is no data set “{name}”. Import the pictures again.",
                f"データセット「{name}」がありません。画像をもう一度読み込んでください。",
            )
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(name, MANIFEST) from error
    there = _files(folder / PICTURES)
    for item in dataset.items:
        if not there.issuperset({item.file, item.mask or item.file}):
            raise _damaged(name, item.name)
    return dataset


def _files(pictures: Path) -> set[str]:
    """As items name them, by one look at the folder: asking for each takes twenty times as long."""
    try:
        return {f"{PICTURES}/{entry.name}" for entry in os.scandir(pictures) if entry.is_file()}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def verify(dataset: Dataset) -> None:
    """Read every picture and raise BadInput where one is not what was imported."""
    for item in dataset.items:
        for path in filter(None, (dataset.path(item), dataset.mask_path(item))):
            if not path.is_file() or sha256_of(path) != path.stem:
                raise _damaged(dataset.name, item.name)


def list_datasets(datasets: Path, opener: Callable[[Path], Dataset] = open_dataset) -> list[Dataset]:
    """Newest first. What is damaged or half built is left out."""
    found = []
    for folder in datasets.iterdir() if datasets.is_dir() else ():
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        try:
            found.append(opener(folder))
        except BadInput:
            continue
    return sorted(found, key=lambda dataset: (dataset.created, dataset.id), reverse=True)


def with_captions(dataset: Dataset, captions: Mapping[int, str], datasets: Path) -> Dataset:
    """A new data set in which item i has `captions[i]`; the pictures are the same files."""
    _check_indexes(dataset, captions)
    items = list(dataset.items)
    for index, caption in captions.items():
        caption = clean_caption(caption)
        if len(caption.encode()) > limits.CAPTION_BYTES:
            size = limits.CAPTION_BYTES // 1024
            name = items[index].name
            raise BadInput(
                Text(
                    f"The caption of “{name}” is longer than {size} KB. Shorten it.",
                    f"「{name}」のキャプションが {size} KB を超えています。短くしてください。",
                )
            )
        items[index] = replace(items[index], caption=caption)
    return _derive(dataset, items, datasets)


def without_items(dataset: Dataset, indexes: Collection[int], datasets: Path) -> Dataset:
    """A new data set without these items. Raises BadInput where none would be left."""
    _check_indexes(dataset, indexes)
    items = [item for index, item in enumerate(dataset.items) if index not in indexes]
    if not items:
        raise BadInput(
            Text("At least one picture must stay in the data set.", "データセットには画像を 1 枚以上残してください。")
        )
    return _derive(dataset, items, datasets)


def copy_dataset(dataset: Dataset, folder: Path) -> Dataset:
    """A job's own copy at `folder`, by hard links where possible: it survives the deletion of the original."""
    with temporary_dataset(folder.parent) as temporary:
        _link_pictures(dataset, dataset.items, temporary)
        return publish(temporary, replace(dataset, folder=folder))


def delete_dataset(dataset: Dataset) -> None:
    """Gone at once by a rename, then removed. Deleting it twice is no error."""
    doomed = dataset.folder.with_name(DELETED + secrets.token_hex(8))
    try:
        dataset.folder.rename(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


@contextmanager
def temporary_dataset(parent: Path) -> Iterator[Path]:
    """A temporary folder with a place for pictures; gone in the end unless `publish` renamed it.

    What killed processes left is removed first: a builder holds a lock on its folder, the kernel frees it on kill -9.
    A full disk is told as DiskFull.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / (BUILDING + secrets.token_hex(8))
    with _locked(parent):  # nobody may take the new folder for a leftover before it is locked
        _clear_leftovers(parent)
        folder.mkdir()
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        (folder / PICTURES).mkdir()
        yield folder
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(
            Text(
                "The disk is full: the data set was not saved. Free some space and try again.",
                "ディスクの空きがないため、データセットを保存できませんでした。空きを作ってからもう一度お試しください。",
            )
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def describe(name: str, items: Sequence[Item], folder: Path) -> Dataset:
    """The value for new items, with id and time; `folder` is where it will be."""
    created = datetime.now(UTC).isoformat(timespec="microseconds")
    return Dataset(content_id(items), name, folder, tuple(items), (), (), created)


def publish(temporary: Path, dataset: Dataset) -> Dataset:
    """Rename a built folder to `dataset.folder`. Where the same content is there already, that one is kept."""
    write_json(temporary / MANIFEST, to_json(dataset))
    sync_folder(temporary / PICTURES)
    for _ in range(2):
        try:
            os.rename(temporary, dataset.folder)
            sync_folder(dataset.folder.parent)
            return dataset
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        try:
            existing = open_dataset(dataset.folder)
        except BadInput:
            if not set(os.listdir(dataset.folder)) <= {MANIFEST, PICTURES}:
                raise  # not ours
            delete_dataset(dataset)  # damaged: the new one takes its place
            continue
        if existing.id == dataset.id:
            return existing
        break
    raise FileExistsError(f"{dataset.folder} holds another data set")


def _derive(dataset: Dataset, items: Sequence[Item], datasets: Path) -> Dataset:
    with temporary_dataset(datasets) as temporary:
        _link_pictures(dataset, items, temporary)
        derived = describe(dataset.name, items, datasets / content_id(items))
        return publish(temporary, replace(derived, skipped=dataset.skipped, notes=dataset.notes))


def _link_pictures(dataset: Dataset, items: Sequence[Item], folder: Path) -> None:
    for file in {file for item in items for file in (item.file, item.mask) if file}:
        try:
            link_or_copy(dataset.folder / file, folder / file)
        except FileNotFoundError:
            raise _damaged(dataset.name, file) from None


def _check_indexes(dataset: Dataset, indexes: Collection[int]) -> None:
    if any(type(index) is not int or not 0 <= index < len(dataset.items) for index in indexes):
        raise BadInput(
            Text(
                f"The data set has {len(dataset.items)} pictures, numbered from 0; there is no such number. Reload the page.",
                f"データセットの画像は {len(dataset.items)} 枚で、その番号の画像はありません。ページを再読み込みしてください。",
            )
        )


def _damaged(name: str, part: str) -> BadInput:
    return BadInput(
        Text(
            f"The data set “{name}” is damaged ({part}). Delete it and import the pictures again.",
            f"データセット「{name}」が壊れています ({part})。削除して画像を読み込み直してください。",
        )
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def clear_leftovers(datasets: Path) -> None:
    """What killed builders and deletions left; `temporary_dataset` does it too."""
    with _locked(datasets):
        _clear_leftovers(datasets)


def _clear_leftovers(parent: Path) -> None:
    for folder in parent.glob(DELETED + "*"):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in parent.glob(BUILDING + "*"):
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # its builder is alive
        finally:
            os.close(descriptor)
