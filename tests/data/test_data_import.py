"""Import: what is given comes back with its captions, one bad file stays out by name, a refusal leaves nothing behind."""

from __future__ import annotations

import os
import resource
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from sdlora.core.errors import BadInput
from sdlora.data import check, import_pictures, limits, list_datasets, open_dataset
from sdlora.data.importing import CHANGES


def names(dataset):
    return [item.name for item in dataset.items]


def captions(dataset):
    return {item.name: item.caption for item in dataset.items}


def left_behind(datasets):
    return sorted(path.name for path in datasets.iterdir()) if datasets.exists() else []


def test_round_trip(draw, write, datasets):
    picture = draw("cat.png", 1, (120, 80))
    dataset = import_pictures([picture, write("cat.txt", "a cat")], datasets, name="Cats")
    again = open_dataset(dataset.folder)
    assert again == dataset
    assert dataset.folder == datasets / dataset.id
    (item,) = again.items
    assert (item.name, item.caption, item.width, item.height) == ("cat.png", "a cat", 120, 80)
    with Image.open(again.path(item)) as stored, Image.open(picture) as given:
        assert stored.format == "PNG"
        assert stored.tobytes() == given.tobytes()
    assert left_behind(datasets) == [dataset.id]
    assert sorted(path.name for path in dataset.folder.iterdir()) == ["dataset.json", "pictures"]


def test_same_content_is_the_same_set(draw, write, datasets, make_zip):
    files = [draw(f"{n}.png", n) for n in (2, 10, 1)] + [write("10.txt", "ten")]
    first = import_pictures(files, datasets)
    assert names(first) == ["1.png", "2.png", "10.png"], "as a person counts"
    again = import_pictures(list(reversed(files)), datasets)
    folder = import_pictures([files[0].parent], datasets)
    zipped = import_pictures([make_zip("x.zip", {file.name: file.read_bytes() for file in files})], datasets)
    assert first.id == again.id == folder.id == zipped.id
    assert any("there already" in note.en for note in again.notes)
    assert len(list_datasets(datasets)) == 1


def test_other_caption_or_name_is_another_set(draw, write, datasets):
    a = draw("a.png", 1)
    ids = {import_pictures([a], datasets).id, import_pictures([a, write("a.txt", "new")], datasets).id}
    ids.add(import_pictures([a.rename(a.with_name("b.png"))], datasets).id)
    assert len(ids) == 3


def test_relative_paths(draw, tmp_path, monkeypatch):
    draw("a.png", 1)
    monkeypatch.chdir(tmp_path)
    dataset = import_pictures([Path("in")], Path("workspace/datasets"))
    assert dataset.path(dataset.items[0]).is_file()
    monkeypatch.chdir(tmp_path / "in")
    assert import_pictures([Path(".")], Path("../workspace/datasets")).name == "in"


def test_progress_counts_pictures(draw, datasets):
    seen = []
    import_pictures([draw("a.png", 1), draw("b.png", 2)], datasets, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_a_cancelled_import_leaves_nothing(draw, datasets):
    class Cancelled(Exception):
        pass

    def progress(done, of):
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        import_pictures([draw("a.png", 1), draw("b.png", 2)], datasets, progress=progress)
    assert left_behind(datasets) == []


def test_leftovers_of_a_killed_import_are_cleared(draw, datasets):
    (datasets / ".import-killed" / "pictures").mkdir(parents=True)
    dataset = import_pictures([draw("a.png", 1)], datasets)
    assert left_behind(datasets) == [dataset.id]


def test_two_imports_of_the_same_at_once(draw, datasets):
    sources = [draw(f"{n}.png", n) for n in range(3)]
    with ThreadPoolExecutor(4) as pool:
        ids = {dataset.id for dataset in pool.map(lambda _: import_pictures(sources, datasets), range(4))}
    assert left_behind(datasets) == sorted(ids)
    assert len(ids) == 1


def test_a_damaged_set_is_repaired_by_importing_again(draw, datasets):
    picture = draw("a.png", 1)
    dataset = import_pictures([picture], datasets)
    dataset.path(dataset.items[0]).unlink()
    assert list_datasets(datasets) == []
    with pytest.raises(BadInput, match=r"damaged \(a.png\)"):
        open_dataset(dataset.folder)
    assert import_pictures([picture], datasets).id == dataset.id
    assert len(list_datasets(datasets)) == 1


def test_name_of_a_file_is_shown_but_never_a_path(draw, write, datasets):
    source = draw("a.png", 1)
    for name in ("\u202egpj.png", "x\n{0}.png", "か\u3099.png", "<b>.png"):
        (source.parent / name).write_bytes(source.read_bytes())
    raw = os.fsencode(source.parent) + b"/" + "犬".encode("cp932") + b".png"
    with open(raw, "wb") as file:
        file.write(source.read_bytes())
    source.unlink()
    dataset = import_pictures([source.parent], datasets, name="../../x")
    assert set(names(dataset)) == {"_gpj.png", "x_{0}.png", "が.png", "<b>.png", "犬.png"}
    assert dataset.name == "..-..-x"
    assert len({item.file for item in dataset.items}) == 1, "the same pixels are stored once"
    assert open_dataset(dataset.folder) == dataset


# --- what stays out, by name ---


def test_bad_pictures_stay_out_by_name(draw, write, datasets):
    good = draw("good.png", 1)
    whole = draw("cut.jpg", 2, (256, 256)).read_bytes()
    given = {
        "cut.jpg": whole[: len(whole) // 2],
        "empty.png": b"",
        "page.png": b"<html>",
        "drawing.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "notes.docx": b"x",
        "inner.zip": b"PK",
    }
    for name, content in given.items():
        write(name, content)
    draw("small.png", 3, (63, 200))
    draw("long.png", 4, (64, 513))
    (good.parent / "link.png").symlink_to(good)
    (good.parent / "up").symlink_to("/")
    os.mkfifo(good.parent / "pipe.png")
    for junk in (".hidden.png", "Thumbs.db", "__MACOSX/a.png", ".git/b.png"):
        write(junk, b"x")
    dataset = import_pictures([good.parent], datasets)
    assert names(dataset) == ["good.png"]
    out = {one.name for one in dataset.skipped}
    assert out == {*given, "small.png", "long.png", "link.png", "up", "pipe.png"}
    for one in dataset.skipped:
        assert one.reason.en
        assert one.reason.ja
        assert one.reason.en != one.reason.ja
    assert open_dataset(dataset.folder).skipped == dataset.skipped


def test_truncated_png_gif_and_webp_stay_out(draw, datasets):
    sources = [draw("good.png", 0)]
    for seed, name in enumerate(("a.png", "b.gif", "c.webp", "d.bmp", "e.tif"), 1):
        path = draw(name, seed, (200, 200))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        sources.append(path)
    assert names(import_pictures(sources, datasets)) == ["good.png"]


def bomb(width, height):
    """A PNG whose header promises more than its bytes hold."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000_000)))
        + chunk(b"IEND", b"")
    )


def test_a_bomb_is_refused_by_its_header(draw, write, datasets):
    good = draw("good.png", 1)
    bombs = [
        write("huge.png", bomb(60_000, 60_000)),
        write("wide.png", bomb(20_000, 2_600)),
        write("mp.png", bomb(8_100, 8_000)),
    ]
    start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    dataset = import_pictures([good, *bombs], datasets)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - start < 3
    assert {one.name for one in dataset.skipped} == {"huge.png", "wide.png", "mp.png"}
    assert all("megapixels" in one.reason.en for one in dataset.skipped)


def test_a_picture_of_too_many_bytes_stays_out(draw, write, datasets, monkeypatch):
    monkeypatch.setattr(limits, "PICTURE_BYTES", 3_000_000)
    big = draw("big.png", 1)
    with big.open("ab") as file:
        file.truncate(3_000_001)
    dataset = import_pictures([draw("good.png", 2), big], datasets)
    assert [(one.name, one.reason.en) for one in dataset.skipped] == [
        ("big.png", "It is larger than 3 MB. Make it smaller.")
    ]


def test_nothing_usable_is_refused_with_counts(write, datasets):
    with pytest.raises(BadInput, match=r"0 of 2\. Other files left out: 1\.") as caught:
        import_pictures([write("a.png", b"x"), write("b.jpg", b"y"), write("c.doc", b"z")], datasets)
    assert "2 枚中 0 枚" in caught.value.text.ja
    assert left_behind(datasets) == []


def test_no_pictures_at_all(write, datasets, tmp_path):
    (tmp_path / "empty").mkdir()
    for sources in ([], [tmp_path / "empty"], [write("a.txt", "only a caption")]):
        with pytest.raises(BadInput, match="0 pictures"):
            import_pictures(sources, datasets)
    for missing in ("missing.png", "x" * 5000, "null\0"):
        with pytest.raises(BadInput, match="no file or folder"):
            import_pictures([tmp_path / missing], datasets)


def test_too_many_of_anything(draw, datasets):
    sources = [draw(f"{n}.png", n) for n in range(3)]
    with pytest.raises(BadInput, match="3 pictures; a data set holds at most 2"):
        import_pictures(sources, datasets, maximum=limits.ImportLimits(2, 10, 10**9))
    with pytest.raises(BadInput, match="more than"):
        import_pictures([sources[0].parent], datasets, maximum=limits.ImportLimits(2, 2, 10**9))
    assert left_behind(datasets) == []


# --- what a picture becomes ---


def stored(dataset, index=0):
    with Image.open(dataset.path(dataset.items[index])) as picture:
        picture.load()
    assert picture.mode == "RGB"
    assert set(picture.info) == set(), "no profile, no EXIF, no prompt"
    return picture


def noted(dataset, code):
    return any(CHANGES[code].en in note.en for note in dataset.notes)


def test_all_formats(draw, datasets):
    suffixes = ("png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "PNG")
    dataset = import_pictures([draw(f"{n}.{suffix}", n) for n, suffix in enumerate(suffixes)], datasets)
    assert len(dataset.items) == len(suffixes)
    assert not dataset.skipped
    assert not dataset.notes


@pytest.mark.parametrize("suffix", ["jpg", "tif", "png", "webp"])
def test_exif_rotation_is_applied_once_and_exif_goes_away(tmp_path, datasets, suffix):
    picture = Image.new("RGB", (128, 64), "red")
    picture.paste("blue", (64, 0, 128, 64))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned clockwise
    exif[0x010E] = "secret place"
    picture.save(tmp_path / f"a.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    dataset = import_pictures([tmp_path / f"a.{suffix}"], datasets)
    result = stored(dataset)
    assert result.size == (64, 128)
    assert (dataset.items[0].width, dataset.items[0].height) == (64, 128)
    top, bottom = result.getpixel((32, 10)), result.getpixel((32, 118))
    assert top[0] > 200 > 50 > top[2]
    assert bottom[2] > 200 > 50 > bottom[0]
    assert b"secret" not in dataset.path(dataset.items[0]).read_bytes()


def test_transparency_is_put_on_white(tmp_path, datasets):
    half = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    half.paste((255, 0, 0, 0), (0, 0, 32, 64))
    half.save(tmp_path / "a.png")
    palette = Image.new("P", (64, 64), 0)
    palette.putpalette([9, 9, 9, 200, 0, 0])
    palette.save(tmp_path / "b.gif", transparency=0)
    Image.new("RGBA", (64, 64), (7, 8, 9, 255)).save(tmp_path / "c.png")
    dataset = import_pictures([tmp_path / "a.png", tmp_path / "b.gif"], datasets)
    assert noted(dataset, "alpha")
    assert stored(dataset).getpixel((5, 5)) == (255, 255, 255)
    assert stored(dataset).getpixel((40, 5)) == (0, 0, 0)
    assert stored(dataset, 1).getpixel((5, 5)) == (255, 255, 255)
    opaque = import_pictures([tmp_path / "c.png"], datasets)
    assert stored(opaque).getpixel((0, 0)) == (7, 8, 9)
    assert not noted(opaque, "alpha")


@pytest.mark.parametrize(("suffix", "mode"), [("png", "I;16"), ("tif", "I;16"), ("tif", "I;16B"), ("tif", "I")])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, datasets, suffix, mode):
    picture = Image.new("I;16", (64, 64), 32768)
    picture.paste(65535, (32, 0, 64, 64))
    picture.putpixel((0, 0), 0)
    picture = picture.convert("I") if mode == "I" else picture
    if mode == "I;16B":
        picture = Image.frombytes(
            "I;16B", (64, 64), bytes(b for v in picture.get_flattened_data() for b in divmod(v, 256))
        )
    picture.save(tmp_path / f"a.{suffix}")
    dataset = import_pictures([tmp_path / f"a.{suffix}"], datasets)
    result = stored(dataset)
    assert noted(dataset, "grey16")
    assert [result.getpixel(at)[0] for at in ((0, 0), (10, 10), (40, 10))] == [0, 128, 255]


def test_float_tiff_is_scaled(tmp_path, datasets):
    picture = Image.new("F", (64, 64), 0.5)
    picture.putpixel((0, 0), 1.0)
    picture.save(tmp_path / "a.tif")
    result = stored(import_pictures([tmp_path / "a.tif"], datasets))
    assert result.getpixel((5, 5)) == (128, 128, 128)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_becomes_rgb(tmp_path, datasets, suffix):
    Image.new("CMYK", (64, 64), (0, 255, 255, 0)).save(tmp_path / f"a.{suffix}")
    dataset = import_pictures([tmp_path / f"a.{suffix}"], datasets)
    red, green, blue = stored(dataset).getpixel((9, 9))
    assert red > 180 > 90 > max(green, blue)
    assert noted(dataset, "cmyk")


def test_profiles_are_turned_to_srgb_and_broken_ones_ignored(tmp_path, datasets):
    from PIL import ImageCms

    lab = Image.new("LAB", (64, 64))
    lab.paste((135, 128 + 80, 128 + 67), (0, 0, 64, 64))  # about the red of sRGB
    lab.save(tmp_path / "a.tif")
    grey = Image.new("RGB", (64, 64), (90, 120, 60))
    grey.save(tmp_path / "b.png", icc_profile=b"not a profile")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey.save(tmp_path / "c.png", icc_profile=srgb)
    grey.save(tmp_path / "d.png", icc_profile=swapped(srgb))
    dataset = import_pictures([tmp_path / name for name in ("a.tif", "b.png", "c.png", "d.png")], datasets)
    assert not dataset.skipped
    red, green, blue = stored(dataset, 0).getpixel((5, 5))
    assert red > 150 > 100 > max(green, blue)
    assert stored(dataset, 1).getpixel((5, 5)) == (90, 120, 60)
    assert stored(dataset, 2).getpixel((5, 5)) == (90, 120, 60)
    first, second, _ = stored(dataset, 3).getpixel((5, 5))
    assert abs(first - 120) <= 2
    assert abs(second - 90) <= 2


def swapped(profile):
    """A profile in which red and green have changed places, under another description."""
    table = bytearray(profile.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be")))
    for at in range(132, 132 + 12 * struct.unpack_from(">I", table, 128)[0], 12):
        tag = bytes(table[at : at + 4])
        table[at : at + 4] = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}.get(tag, tag)
    return bytes(table)


def test_animations_give_their_first_frame_with_a_note(tmp_path, datasets):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "lime", "blue")]
    for suffix in ("gif", "webp", "png", "tif"):
        extra = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **extra)
        dataset = import_pictures([tmp_path / f"a.{suffix}"], datasets)
        assert stored(dataset).getpixel((5, 5)) == (255, 0, 0), suffix
        assert noted(dataset, "frames"), suffix


def test_whatever_was_hidden_in_the_file_is_gone(tmp_path, datasets):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", "a secret prompt")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png", pnginfo=info)
    with open(tmp_path / "a.png", "ab") as file:
        file.write(b"PK a secret tail")
    dataset = import_pictures([tmp_path / "a.png"], datasets)
    assert b"secret" not in dataset.path(dataset.items[0]).read_bytes()


def test_identical_pictures_are_both_kept_and_reported(draw, write, datasets):
    sources = [draw("a.png", 1), draw("b.png", 1), write("a.txt", "first"), write("b.txt", "second")]
    dataset = import_pictures(sources, datasets)
    assert captions(dataset) == {"a.png": "first", "b.png": "second"}
    assert len(list((dataset.folder / "pictures").iterdir())) == 1
    assert "duplicates" in {finding.code for finding in check(dataset)}
