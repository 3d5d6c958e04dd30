"""What resuming needs, as one safetensors file: written to a temporary name, synced, renamed."""

from __future__ import annotations

import json
import os
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


def save_state(path: Path, tensors: dict[str, Tensor], facts: dict) -> None:
    """Replace `path` by the new state, or leave the old one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    contiguous = {n: t.detach().contiguous() for n, t in tensors.items()}
    save_file(contiguous, temporary, metadata={"facts": json.dumps(facts, sort_keys=True)})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_state(path: Path) -> tuple[dict[str, Tensor], dict]:
    """(tensors, facts) of a state written by `save_state`."""
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, facts
