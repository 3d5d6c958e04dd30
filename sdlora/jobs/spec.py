"""`job.json`, what a job is asked to do, and `outcome.json`, how it ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from sdlora import config
from sdlora.config import Config
from sdlora.core.files import read_json, write_json
from sdlora.core.text import Text
from sdlora.data import Item, with_trigger
from sdlora.jobs.paths import JobPaths


@dataclass(frozen=True)
class JobSpec:
    """Everything that decides the result. Written once, never changed; a worker on any machine reads only this."""

    id: str
    name: str  # the file's name without its ending, unique in the workspace
    created: float  # unix time, seconds; also the start time in the file's metadata
    preset: str  # which preset the settings began from; "" = none
    dataset: str  # id of the data set
    base: str  # absolute folder or hub id, as loaded
    base_fingerprint: str  # "" where the base was not on this machine yet
    settings: Config = field(repr=False)  # the id stands for all that was written once
    versions: dict[str, str] = field(repr=False)
    owner: str = ""  # name of the user who started it; "" = where there is no file of users
    parent: str = ""  # id of the job that this one goes on from,
    parent_step: int = 0  # from this step of it

    def write(self, paths: JobPaths) -> None:
        write_json(paths.job, {**asdict(self), "settings": self.settings.model_dump()})

    @staticmethod
    def read(paths: JobPaths) -> JobSpec:
        """Raises BadInput for settings that this version refuses, OSError or KeyError for a damaged folder."""
        values: dict[str, Any] = read_json(paths.job)
        return JobSpec(**{**values, "settings": config.from_stored(values["settings"])})

    def caption(self, item: Item) -> str:
        """The caption that a picture is trained with: its own, with the trigger word."""
        return with_trigger(item.caption, self.settings.data.trigger)


NOTHING = Text("", "")


@dataclass(frozen=True)
class Outcome:
    """How a run ended. *paused* = it is resumed when the disk has room, or by a person who has seen to the GPU.

    `file` and `sha256` are of the chosen checkpoint; the path counts from the job's folder.
    """

    status: Literal["done", "stopped", "failed", "paused"]
    step: int
    seconds: float
    file: str = ""
    sha256: str = ""
    best_step: int = 0
    recommended_strength: float = 1.0
    reason: Text = NOTHING  # why it failed or pauses
    exit_code: int = 0
    certificate: Text = NOTHING  # what was checked of the file after training
    needed_bytes: int = 0  # paused by a full disk: goes on when so much is free

    def write(self, paths: JobPaths) -> None:
        """Sentences are flat on disk: `reason_en`, `reason_ja`, `certificate_en`, `certificate_ja`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        flat: dict[str, Any] = {}
        for name, value in values.items():
            flat |= {f"{name}_en": value.en, f"{name}_ja": value.ja} if isinstance(value, Text) else {name: value}
        write_json(paths.outcome, flat)

    @staticmethod
    def read(paths: JobPaths) -> Outcome | None:
        """None where the run has not ended."""
        try:
            values: dict[str, Any] = read_json(paths.outcome)
        except FileNotFoundError:
            return None
        for name in ("reason", "certificate"):
            values[name] = Text(values.pop(f"{name}_en", ""), values.pop(f"{name}_ja", ""))
        return Outcome(**values)
