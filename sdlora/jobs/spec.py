"""`job.json`, what a job is asked to do, and `outcome.json`, how it ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sdlora import config
from sdlora.config import Config
from sdlora.core.files import read_json, write_json
from sdlora.core.text import Text
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
        fields: dict[str, Any] = read_json(paths.job)
        return JobSpec(**{**fields, "settings": config.from_nested(fields["settings"])})


@dataclass(frozen=True)
class Outcome:
    """How a run ended; *paused* = it goes on when there is room, or when a person has looked after the GPU. `file` and `sha256` are of the chosen checkpoint, the path inside the job's folder."""

    status: Literal["done", "stopped", "failed", "paused"]
    step: int
    seconds: float
    file: str = ""
    sha256: str = ""
    best_step: int = 0
    recommended_strength: float = 1.0
    reason_en: str = ""
    reason_ja: str = ""
    exit_code: int = 0
    certificate_en: str = ""  # what was checked of the file after training
    certificate_ja: str = ""
    needed_bytes: int = 0  # paused by a full disk: goes on when so much is free

    @property
    def reason(self) -> Text:
        return Text(self.reason_en, self.reason_ja)

    @property
    def certificate(self) -> Text:
        return Text(self.certificate_en, self.certificate_ja)

    def write(self, paths: JobPaths) -> None:
        write_json(paths.outcome, asdict(self))

    @staticmethod
    def read(paths: JobPaths) -> Outcome | None:
        """None where the run has not ended."""
        try:
            return Outcome(**read_json(paths.outcome))
        except FileNotFoundError:
            return None
