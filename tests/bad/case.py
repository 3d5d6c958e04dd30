"""One bad thing that somebody gives to a command, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# `accepted`: exit 0. `refused`: exit 2 and one sentence. `left out`: a good picture beside it goes in, the bad one is named.
Verdict = Literal["accepted", "refused", "left out"]


@dataclass(frozen=True)
class Case:
    """`make` writes what is bad into an empty folder and returns the words that name it on the command line."""

    name: str
    verdict: Verdict
    make: Callable[[Path], list[str]]
    says: str = ""  # part of the sentence, or of the JSON that is printed
    real: bool = False  # also through the real command line, with its time and memory measured


def one_file(name: str, content: bytes | Callable[[], bytes]) -> Callable[[Path], list[str]]:
    """A file of these bytes, or of what is made only when it is written."""

    def make(folder: Path) -> list[str]:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content())
        return [str(path)]

    return make
