"""Write safetensors files whose bytes depend on nothing but tensors and metadata.

`safetensors.torch.save_file` writes metadata in random order (0.8.0: 6 saves, 6 different files) and does not fsync; the same training
must give the same file.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from sdlora.core.files import sync_folder, write_bytes
from sdlora.core.safetensors_io.dtypes import file_dtype


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The whole file: header with sorted keys padded to 8 bytes, then the data, larger element sizes first, then by name."""
    return header_bytes(tensors, metadata) + data_bytes(tensors)


def header_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes before the data, by the tensors' shapes and dtypes alone."""
    header: dict[str, object] = {"__metadata__": dict(sorted((metadata or {}).items()))} if metadata else {}
    offset = 0
    for name in _order(tensors):
        tensor = tensors[name]
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": file_dtype(tensor.dtype),
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def data_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes after the header."""
    return b"".join(_raw(tensors[name]).tobytes() for name in _order(tensors))


def _order(tensors: Mapping[str, Tensor]) -> list[str]:
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))


def _raw(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write the whole file at once; it appears under its name only when it is complete."""
    write_bytes(path, to_bytes(tensors, metadata))


def write_streamed(path: Path, like: Mapping[str, Tensor], tensor_of: Callable[[str], Tensor]) -> None:
    """Write a tensor for each name in `like`, of the same shape and dtype, as `tensor_of` gives them, one at a time.

    For files larger than memory. The file appears under its name only when it is complete.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(header_bytes(like, {"format": "pt"}))
            for name in _order(like):
                file.write(_raw(tensor_of(name).to(like[name].dtype)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def data_section(serialized: bytes) -> bytes:
    """The bytes after the header of a serialized file."""
    (length,) = struct.unpack("<Q", serialized[:8])
    return serialized[8 + length :]


def sha256(serialized: bytes) -> str:
    return hashlib.sha256(serialized).hexdigest()
