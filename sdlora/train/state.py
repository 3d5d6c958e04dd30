"""What resuming needs, on disk: written to a temporary folder, synced, hashed, renamed; the newest valid one wins.

Overwriting in place loses the only state to a crash in the middle; so a state is a folder of its own and two are kept.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from sdlora.core.errors import BadInput
from sdlora.core.files import create, make_folder, move_folder, read_json, remove_folder, sha256_of, to_json
from sdlora.core.safetensors_io import writer
from sdlora.core.text import Text

FORMAT = 1
KEPT = 2


@dataclass(frozen=True)
class State:
    """A resumable moment: `step` updates are done. `facts` is plain JSON: threads, skipped steps, gradient scale."""

    step: int
    tensors: dict[str, Tensor]  # adapters and optimizer moments by name
    facts: dict[str, Any]


def save(folder: Path, state: State) -> None:
    """Commit a state. After it returns, it survives a crash or power loss; before, the previous ones still stand."""
    final = folder / f"step-{state.step:06d}"
    if _valid(final):
        return
    building = folder / f".step-{state.step:06d}.tmp"
    remove_folder(building)
    remove_folder(final)  # an invalid leftover of the same step
    make_folder(building)
    data = writer.to_bytes(state.tensors)
    create(building / "tensors.safetensors", data)
    manifest = {"format": FORMAT, "step": state.step, "sha256": hashlib.sha256(data).hexdigest(), "facts": state.facts}
    create(building / "manifest.json", to_json(manifest))
    move_folder(building, final)
    for old in _found(folder)[KEPT:]:
        remove_folder(old)


def newest(folder: Path) -> State | None:
    """The newest state that is whole; None where none was ever saved.

    Raises:
        BadInput: there are states, but none is valid. Starting at 0 without a word would lose work.
    """
    for leftover in folder.glob(".step-*.tmp") if folder.is_dir() else ():
        remove_folder(leftover)
    found = _found(folder)
    for candidate in found:
        if _valid(candidate):
            manifest = read_json(candidate / "manifest.json")
            return State(manifest["step"], load_file(candidate / "tensors.safetensors"), manifest["facts"])
    if found:
        raise BadInput(
            Text(
                "All saved states of this job are damaged, so it cannot go on. Start it again as a new job.",
                "このジョブの保存状態はすべて壊れているため再開できません。新しいジョブとして始めてください。",
            )
        )
    return None


def _found(folder: Path) -> list[Path]:
    """States by step, newest first."""
    return sorted(folder.glob("step-*"), reverse=True) if folder.is_dir() else []


def _valid(candidate: Path) -> bool:
    try:
        manifest = read_json(candidate / "manifest.json")
        return manifest["format"] == FORMAT and sha256_of(candidate / "tensors.safetensors") == manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
