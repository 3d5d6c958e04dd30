"""Jobs on disk: create, find, list, delete."""

from __future__ import annotations

import platform
import re
import secrets
import shutil
import time
import unicodedata
from importlib.metadata import PackageNotFoundError, version

from sdlora import __version__
from sdlora.config import Config
from sdlora.data import Dataset, copy_dataset
from sdlora.errors import BadInput
from sdlora.files import sync_folder
from sdlora.jobs.lock import held
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.spec import JobSpec
from sdlora.models.bases import fingerprint, resolve_base
from sdlora.text import Text

_VERSIONED = ("torch", "diffusers", "transformers", "peft", "safetensors")


def create(workspace: Workspace, dataset: Dataset, settings: Config, name: str = "", preset: str = "") -> JobSpec:
    """Write a new job's folder; its status is then *queued*. The same request within 5 seconds is the same job.

    The folder is built beside and renamed, so that nobody ever sees half a job.

    Raises:
        BaseUnusable: the base is not there or not one that can be trained.
    """
    twin = _twin(workspace, dataset, settings, name)
    if twin:
        return twin
    base = resolve_base(settings.model.base)
    wanted = file_name(name or settings.data.trigger or dataset.name)
    spec = JobSpec(
        id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}",
        name=_unique(wanted, {s.name for s in every(workspace)}),
        created=time.time(),
        preset=preset,
        dataset=dataset.id,
        base=base.source,
        base_fingerprint=fingerprint(base.folder) if base.folder else "",
        settings=settings,
        versions=_versions(),
    )
    final = workspace.job(spec.id)
    building = JobPaths(final.folder.with_name(f".{spec.id}.new"))
    building.folder.mkdir(parents=True)
    try:
        copy_dataset(dataset, building.dataset)
        spec.write(building)
        building.folder.rename(final.folder)
        sync_folder(final.folder.parent)
    except BaseException:
        shutil.rmtree(building.folder, ignore_errors=True)
        raise
    return spec


def _twin(workspace: Workspace, dataset: Dataset, settings: Config, name: str) -> JobSpec | None:
    """A double click makes one job."""
    now = time.time()
    for spec in every(workspace):
        same = spec.dataset == dataset.id and spec.settings == settings and (not name or spec.name == file_name(name))
        if same and 0 <= now - spec.created < 5:
            return spec
    return None


def every(workspace: Workspace) -> list[JobSpec]:
    """All jobs that can be read, oldest first."""
    found = []
    for folder in workspace.jobs.iterdir() if workspace.jobs.is_dir() else ():
        if not folder.name.startswith("."):
            try:
                found.append(JobSpec.read(JobPaths(folder)))
            except (OSError, ValueError, KeyError, TypeError, BadInput):
                continue
    return sorted(found, key=lambda s: (s.created, s.id))


def find(workspace: Workspace, id: str) -> JobSpec:
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
    paths = workspace.job(find(workspace, id).id)
    if held(paths.lock):
        raise BadInput(Text("The job is running. Stop it first.", "ジョブは実行中です。先に停止してください。"))
    hidden = paths.folder.with_name(f".{id}.deleted")
    paths.folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def file_name(wanted: str) -> str:
    """A name that every file system and prompt syntax takes: letters of any script, digits, `-` and `_`."""
    text = re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFC", wanted)).strip("-_")[:60]
    return text or "lora"


def _unique(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    return next(f"{name}-{n}" for n in range(2, len(taken) + 3) if f"{name}-{n}" not in taken)


def _versions() -> dict[str, str]:
    found = {"sdlora": __version__, "python": platform.python_version()}
    for package in _VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
