"""Safetensors files whose bytes depend on nothing but tensors and metadata.

`safetensors.torch.save_file` writes metadata in random order and does not fsync; the same training must give the same file.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sdlora.core.files import write_bytes
from sdlora.core.safetensors_io.streamed import NAMES


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Serialize: header with sorted keys padded to 8 bytes, then the data, larger element sizes first, then by name."""
    return head_bytes(tensors, metadata) + data_bytes(tensors)


def head_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes before the data."""
    header: dict[str, object] = {"__metadata__": dict(sorted((metadata or {}).items()))} if metadata else {}
    offset = 0
    for name in _order(tensors):
        tensor = tensors[name]
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def data_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes after the header."""
    blocks = (tensors[name].detach().cpu().contiguous() for name in _order(tensors))
    return b"".join(block.reshape(-1).view(torch.uint8).numpy().tobytes() for block in blocks)


def _order(tensors: Mapping[str, Tensor]) -> list[str]:
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    write_bytes(path, to_bytes(tensors, metadata))


def data_of(serialized: bytes) -> bytes:
    """The bytes after the header."""
    (length,) = struct.unpack("<Q", serialized[:8])
    return serialized[8 + length :]


def sha256(serialized: bytes) -> str:
    return hashlib.sha256(serialized).hexdigest()
