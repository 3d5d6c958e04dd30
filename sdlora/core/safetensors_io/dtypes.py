"""Number formats of safetensors files: what a file calls them, bytes per element, torch's dtype, and their name in settings.

torch is imported only where a dtype is asked for: the page reads headers too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class NumberFormat:
    """`bytes` is 0 where elements take less than one; `torch` is "" where torch has no such dtype."""

    bytes: int
    torch: str = ""  # attribute of the module torch
    label: str = ""  # as settings and people write it
    struct: str = ""  # code of Python's struct module


FORMATS = {
    "F64": NumberFormat(8, "float64", "fp64", "d"),
    "F32": NumberFormat(4, "float32", "fp32", "f"),
    "F16": NumberFormat(2, "float16", "fp16", "e"),
    "BF16": NumberFormat(2, "bfloat16", "bf16"),
    "F8_E4M3": NumberFormat(1, "float8_e4m3fn", "fp8_e4m3"),
    "F8_E5M2": NumberFormat(1, "float8_e5m2", "fp8_e5m2"),
    "F8_E4M3FNUZ": NumberFormat(1, "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": NumberFormat(1, "float8_e5m2fnuz"),
    "F8_E8M0": NumberFormat(1, "float8_e8m0fnu"),
    "F4": NumberFormat(0),
    "F6_E2M3": NumberFormat(0),
    "F6_E3M2": NumberFormat(0),
    "C64": NumberFormat(8, "complex64"),
    "I64": NumberFormat(8, "int64", struct="q"),
    "I32": NumberFormat(4, "int32", struct="i"),
    "I16": NumberFormat(2, "int16", struct="h"),
    "I8": NumberFormat(1, "int8", struct="b"),
    "U64": NumberFormat(8, "uint64", struct="Q"),
    "U32": NumberFormat(4, "uint32", struct="I"),
    "U16": NumberFormat(2, "uint16", struct="H"),
    "U8": NumberFormat(1, "uint8", struct="B"),
    "BOOL": NumberFormat(1, "bool", struct="?"),
}
_LABELS = {number_format.label: number_format for number_format in FORMATS.values() if number_format.label}
_NAMES = {number_format.torch: name for name, number_format in FORMATS.items() if number_format.torch}


def torch_dtype(name: str) -> torch.dtype:
    """torch's dtype for a file's name ("F16") or a setting's ("fp16"). Raises KeyError where there is none."""
    import torch

    number_format = FORMATS.get(name) or _LABELS[name]
    if not number_format.torch:
        raise KeyError(name)
    dtype: torch.dtype = getattr(torch, number_format.torch)
    return dtype


def file_dtype(dtype: torch.dtype) -> str:
    """The file's name for torch's dtype: `torch.float16` is "F16". Raises KeyError where there is none."""
    return _NAMES[str(dtype).removeprefix("torch.")]
