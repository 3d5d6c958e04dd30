"""The header of a safetensors file, read without torch and without trusting it."""

from __future__ import annotations

import json
import math
import stat
import struct
from pathlib import Path
from typing import Any, BinaryIO

from sdlora.core.errors import BadInput
from sdlora.core.safetensors_io.dtypes import FORMATS
from sdlora.core.text import Text

MAX_HEADER = 100_000_000  # bytes; the format's own limit
# Bytes of a header outside its strings, and how many quotes it has. Parsed, that takes up to twenty times as much memory; SDXL's
# checkpoint has 0.3 MB. One long string, such as a cover picture, costs only its own length.
MAX_STRUCTURE, MAX_QUOTES = 25_000_000, 2_000_000
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x04")  # torch.save's zip, and bare pickles


class _Malformed(Exception):
    """Why a file cannot be read, as the end of a sentence."""

    def __init__(self, en: str, ja: str):
        self.text = Text(en, ja)
        super().__init__(en)


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """Tensor entries by name, metadata, and the offset where the data starts.

    Everything is checked against the file's length before memory is taken for it.

    Raises:
        BadInput: no safetensors file, or one that is cut short.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise _Malformed("it is a folder, a pipe or a device", "フォルダー、パイプ、またはデバイスです")
        with open(path, "rb") as file:
            text = _header_text(file, status.st_size)
        header = json.loads(text)
        metadata = header.pop("__metadata__", None) or {}
        _check(header, metadata, status.st_size - 8 - len(text))
    except _Malformed as error:
        raise _unreadable(path, error.text) from None
    except OSError as error:
        reason = (error.strerror or type(error).__name__)[:200]
        raise _unreadable(path, Text(f"it cannot be read ({reason})", "ファイルを読み込めません")) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _unreadable(
            path, Text("its header is not a safetensors header", "ヘッダーが safetensors の形式ではありません")
        ) from None
    return header, metadata, 8 + len(text)


def _unreadable(path: Path, reason: Text) -> BadInput:
    return BadInput(
        Text(
            f"{path.name} is not a whole safetensors file: {reason.en}.",
            f"{path.name} は正しい safetensors ファイルではありません: {reason.ja}。",
        )
    )


def _header_text(file: BinaryIO, length: int) -> bytes:
    start = file.read(8)
    if start.startswith(_PICKLES):
        raise _Malformed(
            "it is a pickle, which can run code when it is opened, so it is not read",
            "pickle 形式です。開くとコードが実行されるおそれがあるため読み込みません",
        )
    size = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
    if not 2 <= size <= length - 8:
        raise _Malformed("its header is longer than the file", "ヘッダーがファイルより長くなっています")
    if size > MAX_HEADER:
        raise _too_long(MAX_HEADER)
    text = file.read(size)
    if size > MAX_STRUCTURE and not _is_light(text):
        raise _too_long(MAX_STRUCTURE)
    return text


def _is_light(text: bytes) -> bool:
    """Quotes are counted first, escaped ones too: without many of them what follows takes little memory."""
    if text.count(b'"') > MAX_QUOTES:
        return False
    unescaped = text.replace(rb"\\", b"").replace(rb"\"", b"")
    return sum(map(len, unescaped.split(b'"')[::2])) <= MAX_STRUCTURE


def _too_long(limit: int) -> _Malformed:
    megabytes = limit // 1_000_000
    return _Malformed(f"its header is longer than {megabytes} MB", f"ヘッダーが {megabytes} MB を超えています")


def _check(header: dict[str, Any], metadata: dict[str, str], room: int) -> None:
    """Every tensor's bytes lie inside the file and are as many as its shape needs; all text can be written as UTF-8."""
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in metadata.items()):
        raise _Malformed("its metadata is not text", "メタデータが文字列ではありません")
    for text in (*header, *metadata, *metadata.values()):
        text.encode()
    for name, entry in header.items():
        shape, (first, last), dtype = entry["shape"], entry["data_offsets"], entry["dtype"]
        if (
            not isinstance(shape, list)
            or any(type(n) is not int for n in (first, last, *shape))
            or type(dtype) is not str
        ):
            raise _Malformed(
                f"{name} is described by something else than whole numbers", f"{name} の記述が整数ではありません"
            )
        if not 0 <= first <= last <= room:
            raise _Malformed(f"{name} lies outside the file", f"{name} がファイルの外を指しています")
        if min(shape, default=0) < 0:
            raise _Malformed(f"{name} has an impossible shape", f"{name} の形がありえません")
        if dtype not in FORMATS:
            raise _Malformed(f"{name} is in an unknown number format", f"{name} の数値形式が不明です")
        size = FORMATS[dtype].bytes
        if size and last - first != math.prod(shape) * size:
            raise _Malformed(f"{name} has another size than its shape", f"{name} の大きさが形と一致しません")


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape. Raises as `read_header` does."""
    return {name: tuple(entry["shape"]) for name, entry in read_header(path)[0].items()}


def scalars(path: Path, header: dict[str, Any], start: int, names: list[str]) -> list[float]:
    """The values of those of these tensors that have one element; NaN in a number format that is not known here."""
    found = []
    with open(path, "rb") as file:
        for name in names:
            entry = header[name]
            if math.prod(entry["shape"]) == 1:
                file.seek(start + entry["data_offsets"][0])
                found.append(_scalar(file.read(FORMATS[entry["dtype"]].bytes), entry["dtype"]))
    return found


def _scalar(data: bytes, dtype: str) -> float:
    if dtype == "BF16":  # the upper half of an fp32
        return float(struct.unpack("<f", b"\0\0" + data)[0])
    if dtype == "F8_E5M2":  # the upper half of an fp16
        return float(struct.unpack("<e", b"\0" + data)[0])
    if dtype == "F8_E4M3":
        return _e4m3(data[0])
    code = FORMATS[dtype].struct
    return float(struct.unpack(f"<{code}", data)[0]) if code else math.nan


def _e4m3(byte: int) -> float:
    """fp8 with 4 bits of exponent (bias 7), 3 of mantissa and no infinity (arXiv 2209.05433, table 1)."""
    sign, exponent, mantissa = -1.0 if byte & 0x80 else 1.0, byte >> 3 & 0xF, byte & 7
    if exponent == 0xF and mantissa == 7:
        return math.nan
    return sign * (math.ldexp(mantissa / 8, -6) if exponent == 0 else math.ldexp(1 + mantissa / 8, exponent - 7))
