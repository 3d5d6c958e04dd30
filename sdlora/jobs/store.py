"""Job folders: create, extend, look up, list, delete."""

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
from sdlora.models.bases import facts, resolve_base
from sdlora.models.fingerprint import fingerprint

MAX_OPEN_PER_USER, MAX_OPEN = 8, 1_000  # unfinished jobs: of one user, and of an installation without users
LOCK_TIMEOUT = 30.0  # seconds that a new job waits for others to be created
_PACKAGES = ("torch", "diffusers", "transformers", "peft", "safetensors")


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
    facts(base)  # refuses a base that cannot be trained before the job exists
    base_fingerprint = fingerprint(base.path) if base.path else ""
    wanted_name = file_name(name or settings.data.trigger or dataset.name)
    with _exclusive(workspace):
        others = _read_headers(workspace)
        duplicate = _recent_duplicate(others, dataset, settings, name)
        if duplicate and duplicate.owner == owner:
            return duplicate
        _check_open_jobs(others, owner)
        spec = JobSpec(
            id=new_id(),
            name=unique_name(wanted_name, {other.name for other in others}),
            created=_created_after(others),
            preset=preset,
            dataset=dataset.id,
            base=base.source,
            base_fingerprint=base_fingerprint,
            settings=settings,
            versions=versions(),
            owner=owner,
        )
        _build(workspace.job(spec.id), spec, dataset, start)
        return spec


def _check_open_jobs(others: Sequence[_JobHeader], owner: str) -> None:
    """Keep one user from filling the shared queue."""
    own = [other for other in others if other.owner == owner and not other.paths.outcome.exists()]
    limit = MAX_OPEN_PER_USER if owner else MAX_OPEN
    if len(own) >= limit:
        raise BadInput(
            Text(
                f"{len(own)} jobs wait or run already; {limit} is the most. Wait for one to end, or stop one.",
                f"待機中または実行中のジョブがすでに {len(own)} 件あります(上限 {limit} 件)。終了を待つか、停止してください。",
            )
        )


@contextmanager
def _exclusive(workspace: Workspace) -> Iterator[None]:
    """Hold the queue's lock, so that a double click makes one job and no name is given twice."""
    workspace.make()
    with hold(workspace.lock, LOCK_TIMEOUT):
        yield


def clear_leftovers(workspace: Workspace) -> None:
    """Remove the temporary folders and files of killed processes: jobs, data sets, pictures."""
    with hold(workspace.lock, LOCK_TIMEOUT) as acquired:
        for folder in workspace.jobs.glob(".*") if acquired else ():
            shutil.rmtree(folder, ignore_errors=True)
    clear_datasets(workspace.datasets)
    for picture in workspace.previews.glob(".*"):
        picture.unlink(missing_ok=True)


def extend(workspace: Workspace, id: str, steps: int, owner: str = "") -> JobSpec:
    """Create a job that continues an ended one for `steps` more, with its optimizer state.

    The old job stays as it is; its checkpoints are linked into the new one, so that the best of all is chosen.

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
    with _exclusive(workspace):
        others = _read_headers(workspace)
        _check_open_jobs(others, owner)
        longer = replace(
            spec,
            id=new_id(),
            name=unique_name(spec.name, {other.name for other in others}),
            created=_created_after(others),
            settings=settings,
            versions=versions(),
            owner=owner,
            parent=spec.id,
            parent_step=reached,
        )
        start = old.start if old.start.exists() else None
        _build(workspace.job(longer.id), longer, open_dataset(old.dataset), start, old)
        return longer


def _link_results(old: JobPaths, new: JobPaths) -> None:
    """Hard-link an ended job's last state and its checkpoints into a new one."""
    state = f"step-{old.saved_step():06d}"
    for source, target in ((old.state / state, new.state / state), (old.checkpoints, new.checkpoints)):
        target.mkdir(parents=True)
        for file in source.iterdir():
            link_or_copy(file, target / file.name)


def new_id() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def _created_after(others: Sequence[_JobHeader]) -> float:
    """Unix time, but later than every existing job: the queue's order must survive a clock that is set back."""
    return max([time.time(), *(other.created + 1e-3 for other in others)])


def _build(
    final: JobPaths, spec: JobSpec, dataset: Dataset, start: Path | None = None, old: JobPaths | None = None
) -> None:
    """Fill a temporary folder and rename it to `final`, so that no reader sees half a job. `old`: link its results into it."""
    temporary = JobPaths(final.folder.with_name(f".{spec.id}.new"))
    temporary.folder.mkdir(parents=True)
    try:
        copy_dataset(dataset, temporary.dataset)
        if start:
            shutil.copyfile(start, temporary.start)
        if old:
            _link_results(old, temporary)
        spec.write(temporary)
        temporary.folder.rename(final.folder)
        sync_folder(final.folder.parent)
    except BaseException:
        shutil.rmtree(temporary.folder, ignore_errors=True)
        raise


def _recent_duplicate(others: Sequence[_JobHeader], dataset: Dataset, settings: Config, name: str) -> JobSpec | None:
    """An equal job that was created less than 5 seconds ago, by a double click."""
    now = time.time()
    for other in others:
        if other.dataset == dataset.id and 0 <= now - other.created < 5 and (not name or other.name == file_name(name)):
            with suppress(OSError, ValueError, KeyError, TypeError, BadInput):
                spec = JobSpec.read(other.paths)
                if spec.settings == settings:
                    return spec
    return None


@dataclass(frozen=True)
class _JobHeader:
    """The cheap part of an existing job's `job.json`: validating its settings takes longer than all the rest."""

    paths: JobPaths
    name: str
    created: float
    owner: str
    dataset: str


def _read_headers(workspace: Workspace) -> list[_JobHeader]:
    headers = []
    for folder in workspace.jobs.glob("[!.]*"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            spec = read_json(JobPaths(folder).job)
            fields = (spec["name"], float(spec["created"]), spec.get("owner", ""), spec["dataset"])
            headers.append(_JobHeader(JobPaths(folder), *fields))
    return headers


def list_specs(workspace: Workspace) -> list[JobSpec]:
    """All jobs that can be read, oldest first."""
    specs = []
    for folder in workspace.jobs.iterdir() if workspace.jobs.is_dir() else ():
        if not folder.name.startswith("."):
            try:
                specs.append(JobSpec.read(JobPaths(folder)))
            except (OSError, ValueError, KeyError, TypeError, BadInput):
                continue
    return sorted(specs, key=lambda s: (s.created, s.id))


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
    doomed = paths.folder.with_name(f".{id}.deleted")
    paths.folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def file_name(wanted: str) -> str:
    """Reduce a name to what every file system and prompt syntax accepts: letters of any script, digits, `-` and `_`."""
    text = re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFC", wanted)).strip("-_")[:60]
    return text or "lora"


def unique_name(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    return next(f"{name}-{n}" for n in range(2, len(taken) + 3) if f"{name}-{n}" not in taken)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the bytes of a result."""
    found = {"sdlora": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
