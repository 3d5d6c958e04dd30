"""Load a safetensors file tensor by tensor, each straight into the dtype it is wanted in.

A memory-mapped file counts as resident once it was touched: SD 1.5 in bf16 from fp32 files took 5.4 GB to load that way, and takes
2.8 GB this way.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sdlora.core.safetensors_io.dtypes import torch_dtype
from sdlora.core.safetensors_io.header import read_header


def load_as_dtype(path: Path, dtype_of: Callable[[str], torch.dtype]) -> dict[str, Tensor]:
    """All tensors by name; floating-point ones (fp8 too) in the dtype that `dtype_of` gives for their name.

    Raises:
        BadInput: no safetensors file, or one that is cut short.
        KeyError: a number format that torch does not have.
    """
    header, _, start = read_header(path)
    largest = max((e["data_offsets"][1] - e["data_offsets"][0] for e in header.values()), default=0)
    scratch, found = torch.empty(largest, dtype=torch.uint8), {}
    with open(path, "rb") as file:
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            stored, (first, last) = torch_dtype(entry["dtype"]), entry["data_offsets"]
            wanted = dtype_of(name) if stored.is_floating_point else stored
            tensor = torch.empty(entry["shape"], dtype=wanted)
            same = stored == wanted and last > first
            into = tensor.view(-1).view(torch.uint8) if same else scratch[: last - first]
            file.seek(start + first)
            _fill(file, into)
            if not same:
                tensor.copy_(into.view(stored).view(entry["shape"]))
            found[name] = tensor
    return found


def _fill(file: io.BufferedReader, into: Tensor) -> None:
    """Fill `into` from the file's position on. One read gives 2 GB at most."""
    buffer = into.numpy().data
    while buffer:
        count = file.readinto(buffer)
        if not count:
            raise OSError("the file ends too early")
        buffer = buffer[count:]
