"""Pictures and caption files that are damaged, lie, hide something or are no pictures."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from tests.bad.case import Case, Verdict, one_file
from tests.data.conftest import drawing


def encoded(kind: str = "PNG", size: tuple[int, int] = (80, 80), mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    drawing(3, size).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *more: bytes, colour: int = 2, bits: int = 8, data: bytes = b"") -> bytes:
    """A PNG that says whatever size and holds whatever data."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def tiff(*entries: tuple[int, int, int, int], after: int = 0) -> bytes:
    """A little-endian TIFF of one directory; `after` is where it says that the next one lies."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", after)


def beside(name: str, content: bytes) -> Callable[[Path], list[str]]:
    """The folder, with a good picture beside it."""

    def make(folder: Path) -> list[str]:
        (folder / "good.png").write_bytes(encoded())
        (folder / name).write_bytes(content)
        return [str(folder)]

    return make


def _odd(what: str) -> Callable[[Path], list[str]]:
    """Something in a folder that is no ordinary file."""

    def make(folder: Path) -> list[str]:
        (folder / "good.png").write_bytes(encoded())
        path = folder / "odd.png"
        if what == "fifo":
            os.mkfifo(path)
        elif what == "link":
            path.symlink_to("/etc/passwd")
        elif what == "loop":
            path.symlink_to(path)
        elif what == "folder":
            path.mkdir()
        else:
            (folder / "deep").symlink_to(folder)  # a folder that holds itself
        return [str(folder)]

    return make


def _named(name: bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(encoded())
        return [str(folder)]

    return make


def cases() -> Iterator[Case]:
    yield from _damaged()
    yield from _strange_but_fine()
    yield from _captions()
    odd: list[tuple[str, Verdict]] = [
        ("fifo", "left out"),
        ("link", "left out"),
        ("loop", "left out"),
        ("itself", "left out"),
    ]
    for what, verdict in odd:
        yield Case(f"a {what} among pictures", verdict, _odd(what), "deep" if what == "itself" else "odd.png")
    yield Case("a folder named like a picture", "accepted", _odd("folder"), "good.png")
    yield Case("a name that is no UTF-8", "accepted", _named(b"\x83e\x83X\x83g\xff.png"))
    yield Case("a name in cp932", "accepted", _named("テスト.png".encode("cp932")), "テスト")
    yield Case("a name with a line break and a bell", "accepted", _named(b"a\nb\x07.png"), "a_b_.png")
    yield Case("a name that runs backwards", "accepted", _named("gpj.\u202eexe.png".encode()), "gpj._exe.png")
    yield Case("a name of 255 bytes", "accepted", _named(b"n" * 251 + b".png"))
    yield Case("a name that is a command", "accepted", _named(b"$(touch owned);`id`.png"), "$(touch owned)")
    yield Case("nothing there", "refused", lambda folder: [str(folder / "nothing.png")], "does not exist")
    yield Case("a path of 5,000 letters", "refused", lambda folder: ["x" * 5000], "")
    yield Case("a device", "refused", lambda folder: ["/dev/zero"], "not an ordinary file")
    yield Case("an empty folder", "refused", lambda folder: [str(folder)], "0 pictures")


def _damaged() -> Iterator[Case]:
    good, jpeg = encoded(), encoded("JPEG")
    broken = {
        "empty": b"",
        "text": b"hello",
        "html": b"<html><script>alert(1)</script>",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 80 80\n(/tmp/owned) (w) file\n",
        "pdf": b"%PDF-1.7\n",
        "icon": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0\x68\4\0\0\x16\0\0\0" + bytes(1200),
        "fits": b"SIMPLE  =                    T".ljust(2880),
        "only a signature": good[:8],
        "cut in half": good[: len(good) // 2],
        "wrong checksum": good[:20] + b"\xff" + good[21:],
        "no pixels": png(80, 80),
        "zlib rubbish": good[:50] + bytes(30) + good[80:],
        "bomb by header": png(60_000, 60_000, data=bytes(1000)),
        "bomb of zeros": png(16_000, 16_000, data=bytes(2_000_000)),
        "largest integers": png(2**31 - 1, 2**31 - 1),
        "no width": png(0, 80),
        "unknown colours": png(80, 80, colour=9, data=bytes(80 * 241)),
        "too small": encoded(size=(63, 100)),
        "one pixel": encoded(size=(1, 1)),
        "too wide": encoded(size=(64, 513)),
    }
    for name, content in broken.items():
        yield Case(f"png: {name}", "left out", beside("bad.png", content), "bad.png", real="bomb" in name)
    yield Case("png: alone and broken", "refused", one_file("bad.png", b"x"), "Usable pictures: 0 of 1")
    more = {
        "cut.jpg": jpeg[: len(jpeg) * 2 // 3],
        "header.jpg": jpeg[:200],
        "size.jpg": jpeg.replace(b"\xff\xc0\x00\x11\x08\x00\x50\x00\x50", b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff"),
        "cut.webp": encoded("WEBP")[:60],
        "cut.gif": encoded("GIF")[:60],
        "size.gif": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;",
        "size.bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
        "loop.tif": tiff((256, 4, 1, 80), (257, 4, 1, 80), after=8),
        "offset.tif": tiff((256, 4, 1, 80), (257, 4, 1, 80), (258, 3, 1, 8), (273, 4, 1, 2**31), (279, 4, 1, 2**31)),
        "count.tif": tiff((256, 4, 2**30, 80), (257, 4, 2**30, 80)),
        "archive.rar": b"Rar!\x1a\x07\x00",
        "program.exe": b"MZ",
        "big.png": encoded() + bytes(20_000_001),
    }
    for name, content in more.items():
        yield Case(f"picture: {name}", "left out", beside(name, content), name)


def _strange_but_fine() -> Iterator[Case]:
    frames = [drawing(k) for k in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 99
    fine = {
        "text.png": png(80, 80, chunk(b"tEXt", b"prompt\0<script>alert(1)</script>"), data=bytes(80 * 241)),
        "textbomb.png": png(80, 80, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(40_000_000))), data=bytes(80 * 241)),
        "profile.png": png(80, 80, chunk(b"iCCP", b"a\0\0" + zlib.compress(b"no profile")), data=bytes(80 * 241)),
        "polyglot.png": encoded() + b"PK\x03\x04<script>",
        "animated.gif": stream.getvalue(),
        "grey.png": encoded(mode="L"),
        "bits.png": encoded(mode="1"),
        "palette.png": encoded(mode="P"),
        "alpha.png": encoded(mode="RGBA"),
        "cmyk.jpg": encoded("JPEG", mode="CMYK"),
        "turned.jpg": encoded("JPEG", exif=exif.tobytes()),
        "exif.jpg": encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        "really-a-jpeg.png": encoded("JPEG"),
    }
    for name, content in fine.items():
        yield Case(f"strange but fine: {name}", "accepted", beside(name, content), name)


def _captions() -> Iterator[Case]:
    def rows(name: str, content: bytes, verdict: Verdict, says: str) -> Case:
        return Case(f"caption: {says or name}", verdict, beside(name, content), says)

    yield rows(
        "good.txt",
        b"{0.__class__.__mro__} %s ${HOME} $(id) <b>",
        "accepted",
        "{0.__class__.__mro__} %s ${HOME} $(id) <b>",
    )
    yield rows("good.txt", "赤い円".encode("cp932"), "accepted", "赤い円")
    yield rows("good.txt", "\ufeffbom".encode(), "accepted", '"bom"')
    yield rows("good.txt", "wide".encode("utf-16"), "accepted", "wide")
    yield rows("good.txt", b"na\xefve caf\xe9", "accepted", "Windows-1252")
    yield rows("good.txt", b"bell\x07 and\x1b[31m red", "accepted", "red")
    yield rows("good.txt", bytes(50), "left out", "not a text file")
    yield rows("good.txt", b"x" * 70_000, "left out", "larger than 64 KB")
    yield rows("nobody.txt", b"alone", "accepted", "without a picture")
    yield rows("metadata.jsonl", b'{"file_name": "../../etc/passwd", "text": "x"}', "accepted", "cannot be used: 1")
    yield rows("metadata.jsonl", b'{"file_name": 5, "text": []}\n[]\nnull\n{"a', "accepted", "cannot be used: 4")
    yield rows("metadata.jsonl", b"[" * 100_000, "accepted", "cannot be used")
    yield rows("metadata.jsonl", b'{"file_name": "good.png", "text": "\\ud800 half"}', "accepted", "half")
    yield rows("metadata.csv", b"a,b\n1,2\n", "left out", "must name the columns")
    yield rows("metadata.csv", b"file_name,text\ngood.png," + b"x" * 200_000, "left out", "metadata.csv")
    yield rows("metadata.csv", b'file_name,text\n"good.png', "accepted", "metadata.csv")
    yield rows("metadata.csv", b"\0", "left out", "metadata.csv")
