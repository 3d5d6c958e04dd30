"""Zips: names never become paths, unsafe ones refuse the whole zip, one bad entry stays out by name."""

from __future__ import annotations

import stat
import struct
import zipfile

import pytest

from sdlora.core.errors import BadInput
from sdlora.data import import_pictures, limits


def names(dataset):
    return [item.name for item in dataset.items]


def rename(path, old, new):
    """Change names of the same length in the finished zip, flags as they are."""
    assert len(old) == len(new)
    path.write_bytes(path.read_bytes().replace(old, new))
    return path


def test_nested_folders_and_junk(make_zip, png, datasets):
    path = make_zip(
        "set.zip",
        {
            "pack/10_sks dog/2.png": png(2),
            "pack/10_sks dog/10.png": png(3),
            "pack/10_sks dog/2.txt": b"a dog",
            "pack/5_cat/2.png": png(4),
            "__MACOSX/pack/._2.png": b"x",
            "pack/.DS_Store": b"x",
            "pack/Thumbs.db": b"x",
            "pack/notes.md": b"x",
            "pack/inner.zip": b"PK",
        },
    )
    dataset = import_pictures([path], datasets)
    found = [(item.name, item.caption) for item in dataset.items]
    assert found == [("2.png", "cat"), ("2.png", "a dog"), ("10.png", "sks dog")]
    assert {one.name for one in dataset.skipped} == {"notes.md", "inner.zip"}
    assert dataset.name == "set"
    assert any("repeats" in note.en for note in dataset.notes)


def test_japanese_names_of_old_windows(make_zip, png, datasets):
    word = "表示"  # its first letter ends with the byte of a backslash in cp932
    raw = word.encode("cp932")
    path = make_zip("old.zip", {"XXXX.png": png(1), "XXXX.txt": b"one", "YYYY/ZZZZ.png": png(2)})
    rename(path, b"XXXX", raw)
    rename(path, b"YYYY/ZZZZ", raw + b"\\" + raw)
    dataset = import_pictures([path], datasets)
    assert [(item.name, item.caption) for item in dataset.items] == [("表示.png", "one"), ("表示.png", "")]


def test_utf8_names_without_the_flag(make_zip, png, datasets):
    path = rename(make_zip("mac.zip", {"XXXXXX.png": png(1)}), b"XXXXXX", "表示".encode())
    assert names(import_pictures([path], datasets)) == ["表示.png"]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "a/../../evil.png",
        "/evil.png",
        "C:/evil.png",
        "c:\\evil.png",
        "..\\evil.png",
        "\\\\host\\evil.png",
    ],
)
def test_a_name_that_leaves_the_zip_refuses_it_whole(make_zip, png, draw, datasets, tmp_path, name):
    path = make_zip("slip.zip", {"good.png": png(1), name: png(2)})
    before = set(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match="points outside") as caught:
        import_pictures([draw("other.png", 3), path], datasets)
    assert "slip.zip" in caught.value.text.ja
    after = set(tmp_path.rglob("*")) - before
    assert {p.name for p in after} <= {"datasets", "in", "other.png"}
    assert not datasets.exists() or not list(datasets.iterdir())


def test_a_colon_is_a_letter_like_others(make_zip, png, datasets):
    """Names never become paths, so that `c:evil.png` is a name as `a: study.png` is, which macOS and Linux write."""
    path = make_zip("x.zip", {"a: study.png": png(1), "c:evil.png": png(2)})
    assert names(import_pictures([path], datasets)) == ["a: study.png", "c:evil.png"]


def test_only_unix_says_what_kind_a_file_is(make_zip, png, datasets):
    info = zipfile.ZipInfo("a.png")
    info.create_system = 0
    info.external_attr = 0x20 | 0xA000 << 16
    assert names(import_pictures([make_zip("x.zip", {info: png(1)})], datasets)) == ["a.png"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_refuse_the_zip(make_zip, png, datasets, kind):
    info = zipfile.ZipInfo("a.png")
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    with pytest.raises(BadInput, match=r"link|device"):
        import_pictures([make_zip("x.zip", {"good.png": png(1), info: b"/etc/passwd"})], datasets)


def test_locked_entries_stay_out_by_name(make_zip, png, datasets):
    path = make_zip("x.zip", {"a.png": png(1), "b.png": png(2)})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    struct.pack_into("<H", data, at + 8, 1)
    path.write_bytes(data)
    dataset = import_pictures([path], datasets)
    assert names(dataset) == ["b.png"]
    assert [(one.name, "password" in one.reason.en) for one in dataset.skipped] == [("a.png", True)]


def test_a_damaged_entry_stays_out_by_name(make_zip, png, datasets):
    path = make_zip("x.zip", {"a.png": png(1), "b.png": png(2)})
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)
    dataset = import_pictures([path], datasets)
    assert names(dataset) == ["b.png"]
    assert [one.name for one in dataset.skipped] == ["a.png"]


def test_unusual_compression_stays_out_by_name(tmp_path, png, datasets):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", png(1), zipfile.ZIP_LZMA)
        archive.writestr("b.png", png(2))
    dataset = import_pictures([tmp_path / "x.zip"], datasets)
    assert (names(dataset), [one.name for one in dataset.skipped]) == (["b.png"], ["a.png"])


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18) + b"x", bytes(5000), b"Rar!\x1a\x07"]
)
def test_what_is_not_a_whole_zip(tmp_path, datasets, content):
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(BadInput):
        import_pictures([tmp_path / "x.zip"], datasets)


def test_a_cut_zip(make_zip, png, datasets):
    path = make_zip("x.zip", {"a.png": png(1)})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BadInput, match="not a whole zip"):
        import_pictures([path], datasets)


def test_bytes_are_counted_while_unpacking(make_zip, png, datasets, monkeypatch):
    """4 MB of zeros are 4 KB in a zip. The header of the last entry lies about its size."""
    path = make_zip("x.zip", {"a.png": png(1), "b.png": bytes(4_000_000), "c.png": bytes(4_000_000)})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, at + 24, 1000)
    path.write_bytes(data)
    dataset = import_pictures([path], datasets)
    assert [one.name for one in dataset.skipped] == ["b.png", "c.png"]
    with pytest.raises(BadInput, match="GB unpacked"):
        import_pictures([path], datasets / "other", maximum=limits.ImportLimits(10, 10, 3_000_000))
    assert list((datasets / "other").iterdir()) == []


def test_a_list_of_names_too_long_is_never_read(make_zip, png, datasets, monkeypatch):
    monkeypatch.setattr(limits, "ZIP_DIRECTORY_BYTES", 100)
    with pytest.raises(BadInput, match="far too many"):
        import_pictures([make_zip("x.zip", {f"{n}.png": b"" for n in range(10)})], datasets)
