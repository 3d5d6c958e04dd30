"""Data sets never change: an edit is a new one, a copy outlives the original, damage is seen."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest

from sdlora.core.errors import BadInput, DiskFull
from sdlora.data import (
    copy_dataset,
    delete_dataset,
    list_datasets,
    open_dataset,
    store,
    verify,
    with_captions,
    without_items,
)


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_captions_make_a_new_set_of_the_same_files(three, datasets):
    before = content(three.folder)
    edited = with_captions(three, {2: " new\ncaption "}, datasets)
    assert edited.id != three.id
    assert [item.caption for item in edited.items] == ["picture a", "picture b", "new caption"]
    assert [item.file for item in edited.items] == [item.file for item in three.items]
    assert os.path.samefile(three.path(three.items[0]), edited.path(edited.items[0]))
    assert content(three.folder) == before
    assert [dataset.id for dataset in list_datasets(datasets)] == [edited.id, three.id], "newest first"
    assert open_dataset(edited.folder) == edited
    assert with_captions(edited, {2: ""}, datasets).id == three.id, "undoing an edit is the set from before"
    assert with_captions(three, {}, datasets) == three


def test_items_can_be_left_out(three, datasets):
    fewer = without_items(three, {0, 2}, datasets)
    assert [item.name for item in fewer.items] == ["b.png"]
    assert len(list((fewer.folder / "pictures").iterdir())) == 1
    with pytest.raises(BadInput, match="At least one"):
        without_items(three, [0, 1, 2], datasets)


@pytest.mark.parametrize("index", [-1, 3, True, 1.0, "0"])
def test_a_wrong_index_is_refused(three, datasets, index):
    with pytest.raises(BadInput):
        with_captions(three, {index: "x"}, datasets)
    with pytest.raises(BadInput):
        without_items(three, [index], datasets)


def test_a_caption_has_an_end(three, datasets):
    with pytest.raises(BadInput, match="64 KB"):
        with_captions(three, {0: "あ" * 30_000}, datasets)
    assert len(list_datasets(datasets)) == 1


def test_a_copy_survives_the_deletion_of_the_original(three, datasets, tmp_path):
    copy = copy_dataset(three, tmp_path / "job" / "dataset")
    assert copy.id == three.id
    delete_dataset(three)
    delete_dataset(three)
    assert list(datasets.iterdir()) == []
    verify(copy)
    assert open_dataset(copy.folder) == copy
    assert copy_dataset(copy, copy.folder) == copy, "copying again after a crash is no error"
    assert os.stat(copy.path(copy.items[0])).st_nlink == 1, "the disk is free of the original"


def test_a_copy_never_overwrites_what_is_not_a_data_set(three, tmp_path):
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "job.json").write_text("{}")
    with pytest.raises(BadInput):
        copy_dataset(three, tmp_path / "job")
    assert os.listdir(tmp_path / "job") == ["job.json"]


def test_file_systems_without_links(three, tmp_path, monkeypatch):
    def no_link(*args):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_link)
    copy = copy_dataset(three, tmp_path / "copy")
    verify(copy)
    assert not os.path.samefile(three.path(three.items[0]), copy.path(copy.items[0]))


def test_a_full_disk_is_told_and_leaves_nothing(three, datasets, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "link_or_copy", full)
    with pytest.raises(DiskFull):
        with_captions(three, {0: "x"}, datasets)
    assert [path.name for path in datasets.iterdir()] == [three.id]


def test_a_building_folder_in_use_is_not_cleared(three, datasets):
    with store.temporary_dataset(datasets) as mine:
        with_captions(three, {0: "x"}, datasets)
        assert mine.is_dir()
    assert not mine.exists()


def test_changed_pictures_are_seen(three):
    three.path(three.items[1]).write_bytes(b"other")
    assert open_dataset(three.folder) == three, "opening is quick"
    with pytest.raises(BadInput, match=r"damaged \(b.png\)"):
        verify(three)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["items"][0].update(caption="other"),
        lambda value: value["items"][0].update(file="../../../etc/passwd"),
        lambda value: value["items"][0].update(width=True),
        lambda value: value["items"].clear(),
        lambda value: value.update(format=2),
        lambda value: value.pop("notes"),
        lambda value: value.update(name=5),
        lambda value: value.update(items=None),
    ],
)
def test_a_changed_manifest_is_refused(three, datasets, change):
    path = three.folder / "dataset.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(BadInput, match="damaged"):
        open_dataset(three.folder)
    assert list_datasets(datasets) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\udcff"])
def test_a_broken_manifest_is_refused(three, text):
    (three.folder / "dataset.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput, match="damaged"):
        open_dataset(three.folder)


def test_no_data_set(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BadInput, match="no data set"):
            open_dataset(folder)
    assert list_datasets(tmp_path / "missing") == []


def test_editing_a_deleted_set(three, datasets):
    shutil.rmtree(three.folder)
    with pytest.raises(BadInput, match="damaged"):
        with_captions(three, {0: "x"}, datasets)
