"""The header of a safetensors file, read without torch and without trusting it."""

from __future__ import annotations

import json
import stat
import struct
from pathlib import Path
from typing import Any

from sdlora.core.errors import BadInput
from sdlora.core.text import Text

_LONGEST_HEADER = 25_000_000  # bytes; a checkpoint of SDXL has 0.5 MB. Parsed, it takes up to twenty times as much
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
SIZES |= {
    "C64": 8,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "F8_E4M3FNUZ": 1,
    "F8_E5M2FNUZ": 1,
}
_PACKED = ("F4", "F6_E2M3", "F6_E3M2")  # less than a byte each


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """Tensor entries, metadata, and where the data starts. Lengths are checked against the file's before anything is read.

    Raises:
        BadInput: no safetensors file, or one that is cut short.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):  # opening a pipe would wait for its writer
            raise ValueError("it is a folder, a pipe or a device")
        length = facts.st_size
        with open(path, "rb") as file:
            start = file.read(8)
            size = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
            if not 2 <= size <= length - 8:
                raise ValueError("its header is longer than the file")
            if size > _LONGEST_HEADER:
                raise ValueError(f"its header is longer than {_LONGEST_HEADER // 1_000_000} MB")
            header = json.loads(file.read(size))
        metadata = header.pop("__metadata__", None) or {}
        _check(header, metadata, length - 8 - size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = (str(error) or type(error).__name__)[:200]
        raise BadInput(
            Text(
                f"{path.name} is not a whole safetensors file: {reason}.",
                f"{path.name} は正しい safetensors ファイルではありません: {reason}",
            )
        ) from None
    return header, metadata, 8 + size


def _check(header: dict[str, Any], metadata: dict[str, str], room: int) -> None:
    """Every tensor's bytes lie inside the file and are as many as its shape needs; all text can be written as UTF-8."""
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in metadata.items()):
        raise ValueError("its metadata is not text")
    for text in (*header, *metadata, *metadata.values()):
        text.encode()
    for name, entry in header.items():
        shape, (first, last), dtype = entry["shape"], entry["data_offsets"], entry["dtype"]
        if (
            not isinstance(shape, list)
            or any(type(n) is not int for n in (first, last, *shape))
            or type(dtype) is not str
        ):
            raise ValueError(f"{name} is described by something else than whole numbers")
        if not 0 <= first <= last <= room:
            raise ValueError(f"{name} lies outside the file")
        if min(shape, default=0) < 0:
            raise ValueError(f"{name} has an impossible shape")
        if dtype not in SIZES and dtype not in _PACKED:
            raise ValueError(f"{name} is in an unknown number format")
        if dtype in SIZES and last - first != count(shape) * SIZES[dtype]:
            raise ValueError(f"{name} has another size than its shape")


def count(shape: list[int]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


def scalars(path: Path, header: dict[str, Any], start: int, names: list[str]) -> list[float]:
    """The values of these tensors of one element."""
    found = []
    with open(path, "rb") as file:
        for name in names:
            entry = header[name]
            if count(entry["shape"]) == 1:
                file.seek(start + entry["data_offsets"][0])
                found.append(_scalar(file.read(SIZES.get(entry["dtype"], 0)), entry["dtype"]))
    return found


def _scalar(data: bytes, dtype: str) -> float:
    if dtype == "BF16":  # the upper half of an fp32
        return float(struct.unpack("<f", b"\0\0" + data)[0])
    formats = {"F32": "<f", "F16": "<e", "F64": "<d", "I64": "<q", "I32": "<i"}
    return float(struct.unpack(formats[dtype], data)[0]) if dtype in formats else float("nan")
