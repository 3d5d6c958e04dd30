"""What an exception of torch, CUDA or NCCL means: decided here once, by its class's name and its message, without importing torch."""

from __future__ import annotations

import re

_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether less at a time might fit: memory of a GPU or of the machine ran out."""
    return type(error).__name__ == "OutOfMemoryError" or any(words in str(error) for words in _OUT_OF_MEMORY)


def missing_memory(message: str) -> str:
    """How much an allocator asked for, by its own words: "2.00 GiB"; else "more"."""
    asked = re.search(r"allocate ([\d.]+ ?[KMG]i?B)|allocate (\d+) bytes", message)
    return (asked[1] or f"{int(asked[2]) / 1e9:.1f} GB") if asked else "more"
