"""Jobs on disk: create, find, list, delete."""

from __future__ import annotations

import platform
import re
import secrets
import shutil
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sdlora import __version__
from sdlora.config import Config, from_values, values_of
from sdlora.core.errors import BadInput
from sdlora.core.files import link_or_copy, read_json, sync_folder
from sdlora.core.text import Text
from sdlora.data import Dataset, copy_dataset, open_dataset
from sdlora.data import clear_leftovers as clear_datasets
from sdlora.jobs.lock import hold, is_held
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.spec import JobSpec
from sdlora.models.bases import fingerprint, resolve_base

OPEN_OF_ONE, OPEN_OF_ALL = 8, 1_000  # jobs that have not ended: of one user, and where there is no file of users
LOCK_TIMEOUT = 30.0  # seconds that a new job waits for others to be created
_VERSIONED = ("torch", "diffusers", "transformers", "peft", "safetensors")


def create(
    workspace: Workspace,
    dataset: Dataset,
    settings: Config,
    name: str = "",
    preset: str = "",
    owner: str = "",
    start: Path | None = None,
) -> JobSpec:
    """Write a new job's folder; its status is then *queued*. The same request within 5 seconds is the same job.

    `start` is the LoRA file that `model.start_from` names (`library.starting_file`); the job gets its own copy.

    Raises:
        BaseUnusable: the base is not there or not one that can be trained.
        BadInput: this owner has too many jobs that have not ended, or `start` is missing.
    """
    if bool(start) != bool(settings.model.start_from):
        raise BadInput(
            Text(
                f"There is no LoRA {settings.model.start_from!r} to start from.",
                f"開始時の LoRA {settings.model.start_from!r} がありません。",
            )
        )
    base = resolve_base(settings.model.base)
    found = fingerprint(base.path) if base.path else ""
    wanted = file_name(name or settings.data.trigger or dataset.name)
    with _changing(workspace):
        others = _others(workspace)
        twin = _twin(others, dataset, settings, name)
        if twin and twin.owner == owner:
            return twin
        _check_open(others, owner)
        spec = JobSpec(
            id=new_id(),
            name=unique(wanted, {s.name for s in others}),
            created=_now(others),
            preset=preset,
            dataset=dataset.id,
            base=base.source,
            base_fingerprint=found,
            settings=settings,
            versions=versions(),
            owner=owner,
        )
        _build(workspace.job(spec.id), spec, dataset, start)
        return spec


def _check_open(others: Sequence[_Other], owner: str) -> None:
    """Nobody fills the queue that others wait in."""
    own = [s for s in others if s.owner == owner and not s.paths.outcome.exists()]
    most = OPEN_OF_ONE if owner else OPEN_OF_ALL
    if len(own) >= most:
        raise BadInput(
            Text(
                f"{len(own)} jobs wait or run already; {most} is the most. Wait for one to end, or stop one.",
                f"待機中または実行中のジョブがすでに {len(own)} 件あります(上限 {most} 件)。終了を待つか、停止してください。",
            )
        )


@contextmanager
def _changing(workspace: Workspace) -> Iterator[None]:
    """One at a time: a double click is seen as one, and no name is given twice."""
    workspace.make()
    with hold(workspace.lock, LOCK_TIMEOUT):
        yield


def clear_leftovers(workspace: Workspace) -> None:
    """Remove what killed processes left half made or half deleted: jobs, data sets, pictures."""
    with hold(workspace.lock, LOCK_TIMEOUT) as mine:
        for folder in workspace.jobs.glob(".*") if mine else ():
            shutil.rmtree(folder, ignore_errors=True)
    clear_datasets(workspace.datasets)
    for picture in workspace.previews.glob(".*"):
        picture.unlink(missing_ok=True)


def extend(workspace: Workspace, id: str, steps: int, owner: str = "") -> JobSpec:
    """A new job that trains `steps` more from where a finished or stopped one ended, with its optimizer as it was.

    The old job stays as it is; its checkpoints stand in the new one too, so that the best of all is chosen.

    Raises:
        BadInput: no such job, it has not ended, or it saved no state.
    """
    old = workspace.job(get_spec(workspace, id).id)
    spec, reached = JobSpec.read(old), old.saved_step()
    if is_held(old.lock) or not reached:
        raise BadInput(
            Text(
                "Only a job that has ended and trained something can go on.",
                "続きを学習できるのは、終了していて途中の状態が保存されているジョブだけです。",
            )
        )
    train = spec.settings.train
    settings = from_values(
        {
            **values_of(spec.settings),
            "train.steps": reached + steps,
            "train.save_every": train.save_every or -(-train.steps // 10),
        }
    )
    with _changing(workspace):
        others = _others(workspace)
        _check_open(others, owner)
        more = replace(
            spec,
            id=new_id(),
            name=unique(spec.name, {s.name for s in others}),
            created=_now(others),
            settings=settings,
            versions=versions(),
            owner=owner,
            parent=spec.id,
            parent_step=reached,
        )
        start = old.start if old.start.exists() else None
        _build(workspace.job(more.id), more, open_dataset(old.dataset), start, old)
        return more


def _inherit(old: JobPaths, new: JobPaths) -> None:
    """Link an ended job's last state and its checkpoints."""
    state = f"step-{old.saved_step():06d}"
    for source, target in ((old.state / state, new.state / state), (old.checkpoints, new.checkpoints)):
        target.mkdir(parents=True)
        for file in source.iterdir():
            link_or_copy(file, target / file.name)


def new_id() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def _now(others: Sequence[_Other]) -> float:
    """Unix time, but after every job there is: the queue's order must not turn when the clock jumps back."""
    return max([time.time(), *(s.created + 1e-3 for s in others)])


def _build(
    final: JobPaths, spec: JobSpec, dataset: Dataset, start: Path | None = None, old: JobPaths | None = None
) -> None:
    """Make a job's folder beside and rename it, so that nobody ever sees half a job. What `old` ended with is linked into it."""
    building = JobPaths(final.folder.with_name(f".{spec.id}.new"))
    building.folder.mkdir(parents=True)
    try:
        copy_dataset(dataset, building.dataset)
        if start:
            shutil.copyfile(start, building.start)
        if old:
            _inherit(old, building)
        spec.write(building)
        building.folder.rename(final.folder)
        sync_folder(final.folder.parent)
    except BaseException:
        shutil.rmtree(building.folder, ignore_errors=True)
        raise


def _twin(others: Sequence[_Other], dataset: Dataset, settings: Config, name: str) -> JobSpec | None:
    """A double click makes one job."""
    now = time.time()
    for other in others:
        if other.dataset == dataset.id and 0 <= now - other.created < 5 and (not name or other.name == file_name(name)):
            with suppress(OSError, ValueError, KeyError, TypeError, BadInput):
                spec = JobSpec.read(other.paths)
                if spec.settings == settings:
                    return spec
    return None


@dataclass(frozen=True)
class _Other:
    """What a new job has to know of one that is there: its settings, which take the most to read, only of a likely twin."""

    paths: JobPaths
    name: str
    created: float
    owner: str
    dataset: str


def _others(workspace: Workspace) -> list[_Other]:
    found = []
    for folder in workspace.jobs.glob("[!.]*"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            said = read_json(JobPaths(folder).job)
            fields = (said["name"], float(said["created"]), said.get("owner", ""), said["dataset"])
            found.append(_Other(JobPaths(folder), *fields))
    return found


def list_specs(workspace: Workspace) -> list[JobSpec]:
    """All jobs that can be read, oldest first."""
    found = []
    for folder in workspace.jobs.iterdir() if workspace.jobs.is_dir() else ():
        if not folder.name.startswith("."):
            try:
                found.append(JobSpec.read(JobPaths(folder)))
            except (OSError, ValueError, KeyError, TypeError, BadInput):
                continue
    return sorted(found, key=lambda s: (s.created, s.id))


def get_spec(workspace: Workspace, id: str) -> JobSpec:
    """Raises BadInput where there is no such job."""
    try:
        return JobSpec.read(workspace.job(id))
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(Text(f"There is no job {id!r}.", f"ジョブ {id!r} はありません。")) from None


def delete(workspace: Workspace, id: str) -> None:
    """Remove a job and everything it made.

    Raises:
        BadInput: it is running, or there is no such job.
    """
    paths = workspace.job(get_spec(workspace, id).id)
    if is_held(paths.lock):
        raise BadInput(Text("The job is running. Stop it first.", "ジョブは実行中です。先に停止してください。"))
    hidden = paths.folder.with_name(f".{id}.deleted")
    paths.folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def file_name(wanted: str) -> str:
    """A name that every file system and prompt syntax takes: letters of any script, digits, `-` and `_`."""
    text = re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFC", wanted)).strip("-_")[:60]
    return text or "lora"


def unique(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    return next(f"{name}-{n}" for n in range(2, len(taken) + 3) if f"{name}-{n}" not in taken)


def versions() -> dict[str, str]:
    """What decides the bytes of a result, as it is now."""
    found = {"sdlora": __version__, "python": platform.python_version()}
    for package in _VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
