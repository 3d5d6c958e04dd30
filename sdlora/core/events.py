"""What a training run tells the world: one JSON object a line in `events.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from sdlora.core.files import append_line, read_lines
from sdlora.core.text import Text


@dataclass(frozen=True)
class Phase:
    """What the worker does: `loading`, `caching`, `measuring`, `training`, `sampling`, `judging`."""

    name: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Estimate:
    """What the whole run will take, measured before its first step. `peak_bytes` of `memory_bytes`: the GPU's, else the machine's."""

    seconds: float
    peak_bytes: int
    memory_bytes: int
    file_bytes: int

    @property
    def text(self) -> Text:
        """About 11 min, peak 7.2 of 24 GB, file 25 MB."""
        minutes = max(1, round(self.seconds / 60))
        hours, rest = divmod(minutes, 60)
        time = (f"{hours} h {rest} min", f"{hours} 時間 {rest} 分") if hours else (f"{minutes} min", f"{minutes} 分")
        if self.seconds < 55:
            time = (f"{max(1, round(self.seconds))} s", f"{max(1, round(self.seconds))} 秒")
        peak, memory = f"{self.peak_bytes / 1e9:.1f}", f"{self.memory_bytes / 1e9:.0f}"
        file = f"{self.file_bytes / 1e6:.1f}" if self.file_bytes < 1e7 else f"{self.file_bytes / 1e6:.0f}"
        return Text(
            f"about {time[0]} in all, peak {peak} of {memory} GB, file {file} MB",
            f"全体で約 {time[1]}、メモリ最大 {peak} / {memory} GB、ファイル {file} MB",
        )


@dataclass(frozen=True)
class Started:
    """Training begins (or goes on) at `step` of `steps`. Parameter counts are of the LoRA and of a full fine-tune."""

    step: int
    steps: int
    pictures: int
    held_out: int
    trained_parameters: int
    full_parameters: int
    device: str
    precision: str


@dataclass(frozen=True)
class Stepped:
    """One optimizer update. `loss` is the weighted loss, `lr` the UNet's rate, `seconds` the time of this step."""

    step: int
    loss: float
    lr: float
    seconds: float


@dataclass(frozen=True)
class Saved:
    """A checkpoint, as a path inside the job's folder."""

    step: int
    file: str


@dataclass(frozen=True)
class Sampled:
    """One sample picture, as a path inside the job's folder."""

    step: int
    prompt: str
    strength: float
    file: str


@dataclass(frozen=True)
class Judged:
    """Held-out loss of a checkpoint beside the base's own on the same pictures, noise and timesteps.

    `noise` is the standard error of their paired difference: a gain below it says nothing.
    """

    step: int
    held_out_loss: float
    base_loss: float
    noise: float


@dataclass(frozen=True)
class Warned:
    """Something a person should know; training goes on."""

    code: str
    en: str
    ja: str

    @property
    def text(self) -> Text:
        return Text(self.en, self.ja)


def memory_warning(emit: Emit) -> Callable[[Text], None]:
    """What tells that something is computed with less memory from here."""
    return lambda text: emit(Warned("memory", text.en, text.ja))


Event = Phase | Estimate | Started | Stepped | Saved | Sampled | Judged | Warned
Emit = Callable[[Event], None]
# The names in the file, where they stay as the first versions wrote them.
_NAMES: dict[type, str] = {
    **{kind: kind.__name__ for kind in (Phase, Started, Stepped, Saved, Sampled, Judged, Warned)},
    Estimate: "Foreseen",
}
_KINDS = {name: kind for kind, name in _NAMES.items()}


def append(path: Path, event: Event) -> None:
    append_line(path, json.dumps({"event": _NAMES[type(event)], **asdict(event)}, ensure_ascii=False))


def parse(line: bytes) -> Event | None:
    """The event on one line; None for a line that a crash cut short or that a newer version wrote."""
    try:
        fields: dict[str, Any] = json.loads(line)
        return _KINDS[fields.pop("event")](**fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


@dataclass
class Follower:
    """Reads a growing `events.jsonl` and keeps what a page shows. `poll` reads only what is new.

    A resumed run repeats steps after its last state: the later event for a step replaces the earlier one.
    """

    path: Path
    offset: int = 0
    phase: Phase | None = None
    estimate: Estimate | None = None
    started: Started | None = None
    steps: dict[int, Stepped] = field(default_factory=dict)
    saved: dict[int, Saved] = field(default_factory=dict)
    judged: dict[int, Judged] = field(default_factory=dict)
    samples: dict[tuple[int, str, float], Sampled] = field(default_factory=dict)
    warnings: list[Warned] = field(default_factory=list)

    def poll(self) -> bool:
        """Take in what was appended; True if there was anything."""
        lines, self.offset = read_lines(self.path, self.offset)
        for line in lines:
            event = parse(line)
            if event is not None:
                self._take(event)
        return bool(lines)

    def _take(self, event: Event) -> None:
        match event:
            case Phase():
                self.phase = event
            case Estimate():
                self.estimate = event
            case Started():
                self.started = event
                self.steps = {k: v for k, v in self.steps.items() if k <= event.step}
            case Stepped():
                self.steps[event.step] = event
            case Saved():
                self.saved[event.step] = event
            case Judged():
                self.judged[event.step] = event
            case Sampled():
                self.samples[event.step, event.prompt, event.strength] = event
            case Warned():
                self.warnings.append(event)

    @property
    def step(self) -> int:
        return next(reversed(self.steps), self.started.step if self.started else 0)

    def seconds_left(self, window: int = 50) -> float | None:
        """Median time of the last steps times the steps to go; None before the second step."""
        recent = sorted(s.seconds for s in islice(reversed(self.steps.values()), window))
        if self.started is None or len(recent) < 2:
            return None
        return recent[len(recent) // 2] * (self.started.steps - self.step)
