"""Zips that lead outside, lie about themselves, explode or are cut."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping

from tests.bad.case import Case, one_file
from tests.bad.pictures import encoded


def packed(files: Mapping[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for entry, content in files.items():
            archive.writestr(entry, content)
    return stream.getvalue()


def entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def with_name(name: bytes, flags: int = 0) -> bytes:
    """A zip whose second entry has this name, byte for byte."""
    plain = "n" * (len(name) - 4) + ".png"
    data = packed({"good.png": encoded(), plain: encoded(size=(90, 90))}).replace(plain.encode(), name)
    at = data.rindex(b"PK\x01\x02")
    return data[: at + 8] + struct.pack("<H", flags) + data[at + 10 :]


def altered(offset: int, value: bytes, data: bytes | None = None) -> bytes:
    """The last entry of the list of names with other bytes at `offset`."""
    data = data or packed({"good.png": encoded(), "bad.png": encoded(size=(90, 90))})
    at = data.rindex(b"PK\x01\x02") + offset
    return data[:at] + value + data[at + len(value) :]


def bomb(files: int = 210) -> bytes:
    """2.1 GB of zeros, as pictures of 10 MB."""
    zeros = bytes(10_000_000)
    return packed({f"{k}.png": zeros for k in range(files)})


def cases() -> Iterator[Case]:
    good = {"good.png": encoded()}
    for name in ("../a.png", "a/../../b.png", "/etc/a.png", "C:\\a.png", "..\\a.png", "\\\\server\\a.png"):
        yield Case(f"zip: {name}", "refused", one_file("x.zip", packed({**good, name: encoded()})), "outside")
    yield Case("zip: a zero byte in a name", "refused", one_file("x.zip", with_name(b"aaaa\0aaa.png", 0x800)), "")
    for kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK):
        yield Case(
            f"zip: file type {kind:o}",
            "refused",
            one_file("x.zip", packed({**good, entry("a.png", kind): b"/etc/passwd"})),
            "refused",
        )
    whole = packed(good)
    broken = {
        "empty file": b"",
        "text": b"hello",
        "only a signature": b"PK\x03\x04",
        "cut": whole[:-10],
        "half": whole[: len(whole) // 2],
        "another format": b"7z\xbc\xaf\x27\x1c" + bytes(100),
        "a damaged list of names": whole.replace(b"PK\x01\x02", b"PK\x09\x09"),
    }
    for name, content in broken.items():
        yield Case(f"zip: {name}", "refused", one_file("x.zip", content), "x.zip")
    beyond = whole[:-6] + struct.pack("<I", 2**32 - 2) + whole[-2:]
    yield Case("zip: list of names beyond the end", "refused", one_file("x.zip", beyond), "good.png")
    yield Case("zip: nothing in it", "refused", one_file("x.zip", packed({})), "0 pictures")
    yield Case("zip: only a zip in it", "refused", one_file("x.zip", packed({"y.zip": whole})), "y.zip")
    yield Case("zip: a picture by another name", "refused", one_file("x.zip", encoded()), "not a whole zip")
    yield Case("zip: a zip by another name", "refused", one_file("x.png", whole), "0 of 1")
    out = {
        "locked": altered(8, struct.pack("<H", 1)),
        "unknown method": altered(10, struct.pack("<H", 99)),
        "wrong checksum": altered(16, b"\1\2\3\4"),
        "offset beyond the end": altered(42, struct.pack("<I", 2**31)),
        "offset into another entry": altered(42, struct.pack("<I", 7)),
        "lies about its size": altered(24, struct.pack("<I", 10), packed({**good, "bad.png": bytes(25_000_000)})),
        "says 4 GB": altered(24, struct.pack("<I", 2**32 - 2)),
    }
    for name, content in out.items():
        yield Case(f"zip: {name}", "left out", one_file("x.zip", content), "bad.png")
    lzma = packed({"bad.png": encoded()}, zipfile.ZIP_LZMA)
    yield Case("zip: another compression", "refused", one_file("x.zip", lzma), "bad.png")
    yield Case("zip: bomb", "refused", one_file("x.zip", bomb), "GB unpacked", real=True)
    many = lambda: packed({f"{k}.txt": b"" for k in range(20_001)}, zipfile.ZIP_STORED)  # noqa: E731
    yield Case("zip: 20,001 files", "refused", one_file("x.zip", many), "more than 20,000 files")
    fine = {
        "says it has more files than it has": whole[:-12] + struct.pack("<H", 999) + whole[-10:],
        "twice the same name": packed({**good, "a/good.png": encoded(size=(90, 90))}),
        "something before it": b"#!/bin/sh\n" + whole,
        "something after it": whole[:-2] + struct.pack("<H", 500) + b"c" * 500,
        "macOS leftovers": packed({**good, "__MACOSX/._good.png": b"x", ".DS_Store": b"x"}),
        "folders of a hundred levels": packed({"d/" * 100 + "good.png": encoded()}),
        "a dot in the way": packed({"./good.png": encoded()}),
    }
    for name, content in fine.items():
        yield Case(f"zip: {name}", "accepted", one_file("x.zip", content), "good.png")
    yield Case(
        "zip: Japanese Windows",
        "accepted",
        one_file("x.zip", with_name("画像の円.png".encode("cp932"))),
        "画像の円.png",
    )
