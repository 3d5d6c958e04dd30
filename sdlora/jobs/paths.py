"""Paths: the workspace, a job's folder, and which ids may name a folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sdlora.core.errors import BadInput
from sdlora.core.text import Text

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")


def checked_id(text: str) -> str:
    """Return `text` if it is a valid id. Ids come from browsers and command lines and become parts of paths.

    Raises:
        BadInput: anything but lower-case letters, digits and dashes.
    """
    if not _ID.fullmatch(text):
        raise BadInput(Text(f"{text[:80]!r} is not an id.", f"{text[:80]!r} は ID ではありません。"))
    return text


@dataclass(frozen=True)
class Workspace:
    """The root folder of one installation: data sets, jobs, previews, caches."""

    root: Path

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def previews(self) -> Path:
        return self.root / "previews"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def lock(self) -> Path:  # held by whoever changes the queue
        return self.root / ".queue.lock"

    def dataset(self, id: str) -> Path:
        return self.datasets / checked_id(id)

    def job(self, id: str) -> JobPaths:
        return JobPaths(self.jobs / checked_id(id))

    def make(self) -> Workspace:
        for folder in (self.datasets, self.jobs, self.previews, self.cache):
            folder.mkdir(parents=True, exist_ok=True)
        return self


def default_workspace() -> Path:
    """`$SDLORA_WORKSPACE`, else `workspace/` in the current folder."""
    return Path(os.environ.get("SDLORA_WORKSPACE") or "workspace").absolute()


@dataclass(frozen=True)
class JobPaths:
    """One job's folder. Each file has one writer, named behind it."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.folder.parent.parent)

    @property
    def job(self) -> Path:  # store, once
        return self.folder / "job.json"

    @property
    def start(self) -> Path:  # store, once: the LoRA that it begins with, where there is one
        return self.folder / "start.safetensors"

    @property
    def dataset(self) -> Path:  # store, once: the job's own links to its pictures
        return self.folder / "dataset"

    @property
    def lock(self) -> Path:  # held by the worker for its life
        return self.folder / ".lock"

    @property
    def node(self) -> Path:  # the Ray launcher: where the worker runs
        return self.folder / "node.json"

    @property
    def node_lock(self) -> Path:  # held by the worker for its life, on whatever node
        return self.folder / ".node.lock"

    @property
    def stop(self) -> Path:  # runner
        return self.folder / "stop"

    @property
    def events(self) -> Path:  # worker
        return self.folder / "events.jsonl"

    @property
    def log(self) -> Path:  # worker's stdout and stderr
        return self.folder / "log.txt"

    @property
    def state(self) -> Path:  # worker
        return self.folder / "state"

    @property
    def checkpoints(self) -> Path:  # worker
        return self.folder / "checkpoints"

    @property
    def samples(self) -> Path:  # worker
        return self.folder / "samples"

    @property
    def outcome(self) -> Path:  # worker, last
        return self.folder / "outcome.json"

    @property
    def name(self) -> Path:  # library: a name other than the job's own
        return self.folder / "library.json"

    def saved_step(self) -> int:
        """The step of the newest saved state, where resuming would continue; 0 where there is none."""
        return max((int(p.name.removeprefix("step-")) for p in self.state.glob("step-*")), default=0)
