"""The Library: every finished LoRA of the workspace, and files that were brought here or made of others.

`library/<id>/` holds `entry.json`, one `.safetensors` file (of a PEFT adapter: `peft/`) and, where it is made here, what `making` writes.
A trained LoRA stays in its job's folder; only its name, where it was changed, lies beside it.

Whoever asks sees their own entries, an admin all: what others have is not there.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from sdlora.config import Config
from sdlora.core.errors import BadInput
from sdlora.core.files import read_json, sha256_of, sync_folder, write_json
from sdlora.core.text import Text
from sdlora.jobs import runner, store
from sdlora.jobs.job_list import JobList
from sdlora.jobs.lock import is_held
from sdlora.jobs.ownership import LOCAL_ADMIN, User, may_see
from sdlora.jobs.paths import Workspace, checked_id
from sdlora.jobs.runner import Job
from sdlora.jobs.spec import JobSpec, Outcome
from sdlora.lora_files.inspect import inspect_file

PEFT = "peft"
KEPT_DAYS = 7  # deleted ones, before they are gone for good
Origin = Literal["trained", "added", "merged", "resized", "converted", "extracted"]
_OURS, _NEW = (
    "file-",
    ".new",
)  # how ids begin that lie in `library/`; the ending of a hidden folder that is being filled


@dataclass(frozen=True)
class LibraryEntry:
    """`file` may not be there yet: see `making.status`. `of` are the names of what it was made of, `base` what it was trained on."""

    id: str
    name: str  # its file's, without the ending
    created: float  # unix time, seconds
    origin: Origin
    file: Path
    of: tuple[str, ...] = ()
    base: str = ""
    sha256: str = ""  # "" where it was made here
    owner: str = ""  # name of the user who trained, brought or made it

    @property
    def home(self) -> Path:
        """The entry's own folder in the Library; of a trained one, where its checkpoints lie."""
        return self.file.parent


def folder(workspace: Workspace) -> Path:
    return workspace.root / "library"


def _trash(workspace: Workspace) -> Path:
    return workspace.root / "trash"


def list_entries(
    workspace: Workspace, user: User = LOCAL_ADMIN, jobs: Iterable[Job] | None = None
) -> list[LibraryEntry]:
    """All that this user may see, newest first. `jobs`, where they are known, are not read again."""
    known = runner.jobs(workspace) if jobs is None else jobs
    trained = [e for e in (_of_job(workspace, job.spec, job.outcome) for job in known) if e and may_see(user, e.owner)]
    return sorted(trained + list_untrained(workspace, user), key=lambda e: (e.created, e.id), reverse=True)


def list_untrained(workspace: Workspace, user: User = LOCAL_ADMIN) -> list[LibraryEntry]:
    """Those that were brought here, made of others, or are being made."""
    found = [e for e in map(_of_folder, _folders(folder(workspace))) if e]
    return [e for e in found if may_see(user, e.owner)]


def get_entry(workspace: Workspace, id: str, user: User = LOCAL_ADMIN) -> LibraryEntry:
    """Raises BadInput where there is none of this id that the user may see."""
    checked_id(id)
    try:
        ours = id.startswith(_OURS)
        entry = _of_folder(folder(workspace) / id) if ours else _of_job(workspace, *_job(workspace, id))
    except BadInput:
        entry = None
    if entry is None or not may_see(user, entry.owner):
        raise BadInput(Text("This LoRA is not in the Library any more.", "この LoRA はもうライブラリーにありません。"))
    return entry


def resolve_start_from(
    workspace: Workspace, settings: Config, user: User = LOCAL_ADMIN, files: bool = False
) -> Path | None:
    """The file that `model.start_from` names: an entry that this user may see or, where `files` is true, any file. None where it is empty.

    Raises:
        BadInput: there is none, or it is no LoRA.
    """
    wanted = settings.model.start_from.strip()
    if not wanted:
        return None
    entry = next((e for e in list_entries(workspace, user) if e.name == wanted and e.file.is_file()), None)
    file = entry.file if entry else Path(wanted).expanduser() if files else None
    if file is None or not file.is_file():
        where = (
            Text("in the Library", "ライブラリーに")
            if not files
            else Text("in the Library, and no file", "ライブラリーにもファイルとしても")
        )
        raise BadInput(
            Text(f"There is no LoRA {wanted[:100]!r} {where.en}.", f"LoRA {wanted[:100]!r} は{where.ja}ありません。")
        )
    inspect_file(file)
    return file


def _job(workspace: Workspace, id: str) -> tuple[JobSpec, Outcome | None]:
    return store.get_spec(workspace, id), Outcome.read(workspace.job(id))


def _of_job(workspace: Workspace, spec: JobSpec, outcome: Outcome | None) -> LibraryEntry | None:
    paths = workspace.job(spec.id)
    if outcome is None or not outcome.file or not (paths.folder / outcome.file).is_file():
        return None
    name = read_json(paths.name)["name"] if paths.name.is_file() else spec.name
    file = paths.folder / outcome.file
    return LibraryEntry(spec.id, name, spec.created, "trained", file, (), spec.base, outcome.sha256, spec.owner)


def _of_folder(place: Path) -> LibraryEntry | None:
    try:
        said = read_json(place / "entry.json")
    except (OSError, ValueError):
        return None
    written = sorted(place.glob("*.safetensors")) + [p for p in [place / PEFT] if p.is_dir()]
    file = written[0] if written else place / f"{said['name']}.safetensors"
    return LibraryEntry(**{**said, "id": place.name, "of": tuple(said["of"]), "file": file})


def _folders(parent: Path) -> Iterator[Path]:
    for place in sorted(parent.iterdir()) if parent.is_dir() else ():
        if not place.name.startswith("."):
            yield place


def add_file(workspace: Workspace, source: Path, name: str, user: User = LOCAL_ADMIN) -> LibraryEntry:
    """Take a LoRA file from outside in, by moving it. Its header is checked, its weights are not read.

    Raises:
        BadInput: no whole safetensors file, no LoRA in it, or one that is here already.
    """
    if not name.lower().endswith(".safetensors"):
        raise BadInput(
            Text(
                f"{name} is no .safetensors file. Other kinds can run code when they are opened, so they are not taken.",
                f"{name} は .safetensors ファイルではありません。他の形式は開くだけでコードが実行されることがあるため受け付けません。",
            )
        )
    try:
        digest = inspect_file(source).sha256
    except BadInput as error:  # in the words of the name that it came under
        raise BadInput(
            Text(error.text.en.replace(source.name, name), error.text.ja.replace(source.name, name))
        ) from None
    twin = next(
        (e for e in list_entries(workspace, user) if digest == e.sha256 or _same_bytes(e, source, digest)), None
    )
    if twin:
        raise BadInput(
            Text(
                f"{name} is in the Library already, as “{twin.name}”.",
                f"{name} はすでにライブラリーにあります(「{twin.name}」)。",
            )
        )
    entry = replace(new_entry(workspace, Path(name).stem, "added"), sha256=digest, owner=user.name)
    with entry_folder(workspace, entry) as place:
        shutil.move(source, place / entry.file.name)
    return get_entry(workspace, entry.id)


def _same_bytes(entry: LibraryEntry, source: Path, digest: str) -> bool:
    """For a file that was made here, of which nothing is noted: read only where the sizes are equal."""
    file = entry.file
    return (
        not entry.sha256
        and file.is_file()
        and file.stat().st_size == source.stat().st_size
        and sha256_of(file) == digest
    )


def new_entry(
    workspace: Workspace, name: str, origin: Origin, of: tuple[str, ...] = (), base: str = ""
) -> LibraryEntry:
    """An entry that nothing lies in yet."""
    taken = {e.name for e in list_entries(workspace)}
    id = f"{_OURS}{store.new_id()}"
    name = store.unique_name(store.file_name(name), taken)
    file = folder(workspace) / id / f"{name}.safetensors"  # in it, programs will find this name too
    return LibraryEntry(id, name, time.time(), origin, file, of, base)


class entry_folder:  # noqa: N801 (used as a function)
    """The folder of a new entry while it is filled; seen under its id when the block ends well."""

    def __init__(self, workspace: Workspace, entry: LibraryEntry):
        self._final = folder(workspace) / entry.id
        self._place = self._final.with_name(f".{entry.id}{_NEW}")
        self._entry = entry

    def __enter__(self) -> Path:
        self._place.mkdir(parents=True)
        said = {k: v for k, v in asdict(self._entry).items() if k not in ("id", "file")}
        write_json(self._place / "entry.json", said)
        return self._place

    def __exit__(self, kind: object, *_: object) -> None:
        if kind:
            shutil.rmtree(self._place, ignore_errors=True)
            return
        self._place.rename(self._final)
        sync_folder(self._final.parent)


def rename(workspace: Workspace, id: str, name: str, user: User = LOCAL_ADMIN) -> LibraryEntry:
    """Call it otherwise from now on. The file's bytes stay: they are what was checked, and what its hash is of.

    Raises:
        BadInput: no such entry, or another one has this name.
    """
    entry = get_entry(workspace, id, user)
    wanted = store.file_name(name)
    if any(e.name == wanted and e.id != id for e in list_entries(workspace)):
        raise BadInput(
            Text(
                f"Another LoRA is called “{wanted}”. Choose another name.",
                f"「{wanted}」という名前の LoRA がすでにあります。別の名前にしてください。",
            )
        )
    if entry.origin == "trained":
        write_json(workspace.job(id).name, {"name": wanted})
    else:
        write_json(entry.home / "entry.json", {**read_json(entry.home / "entry.json"), "name": wanted})
    return get_entry(workspace, id)


def delete(workspace: Workspace, id: str, user: User = LOCAL_ADMIN) -> LibraryEntry:
    """Hide it, so that `restore` can bring it back; a trained one goes with its job. Gone for good after a week, or by `empty_trash`.

    Raises:
        BadInput: it is still being trained or made, or there is none.
    """
    entry = get_entry(workspace, id, user)
    home = _home(workspace, id)
    if is_held(home / ".lock"):
        raise BadInput(Text(f"“{entry.name}” is still being made.", f"「{entry.name}」はまだ作成中です。"))
    _trash(workspace).mkdir(exist_ok=True)
    home.rename(_trash(workspace) / id)
    return entry


def restore(workspace: Workspace, id: str, user: User = LOCAL_ADMIN) -> LibraryEntry:
    """Raises BadInput where nothing of this id was deleted, or it is gone for good."""
    kept, home = _trash(workspace) / checked_id(id), _home(workspace, id)
    if not kept.is_dir() or home.exists() or not may_see(user, _said(kept, "owner", "")):
        raise BadInput(Text("It is gone for good.", "すでに完全に削除されています。"))
    kept.rename(home)
    return get_entry(workspace, id)


def _home(workspace: Workspace, id: str) -> Path:
    return (folder(workspace) if id.startswith(_OURS) else workspace.jobs) / id


@dataclass(frozen=True)
class Deleted:
    id: str
    name: str
    size: int  # bytes on the disk
    seconds: float  # since it was deleted


def trash(workspace: Workspace, user: User = LOCAL_ADMIN) -> list[Deleted]:
    """What this user can put back, the last deleted first."""
    return [
        Deleted(
            p.name, _said(p, "name", p.name), sum(f.lstat().st_size for f in p.rglob("*")), time.time() - _deleted_at(p)
        )
        for p in _thrown_away(workspace, user)
    ]


def _deleted_at(kept: Path) -> float:
    return kept.stat().st_ctime  # renaming sets it


def _thrown_away(workspace: Workspace, user: User) -> list[Path]:
    """The folders of what this user deleted, the last one first."""
    seen = [p for p in _folders(_trash(workspace)) if may_see(user, _said(p, "owner", ""))]
    return sorted(seen, key=_deleted_at, reverse=True)


def _said(kept: Path, key: str, default: str) -> str:
    """What a deleted one's own notes say."""
    for note in ("library.json", "entry.json", "job.json"):
        try:
            return str(read_json(kept / note)[key])
        except (OSError, ValueError, KeyError):
            continue
    return default


def empty_trash(workspace: Workspace, days: float = 0.0, user: User = LOCAL_ADMIN) -> None:
    """Remove what was deleted more than so many days ago."""
    for kept in _thrown_away(workspace, user):
        if time.time() - _deleted_at(kept) >= days * 86400:
            shutil.rmtree(kept, ignore_errors=True)


def clear_leftovers(workspace: Workspace) -> None:
    """At the start: what was deleted long ago, and what a killed process left half filled."""
    empty_trash(workspace, KEPT_DAYS)
    for place in folder(workspace).glob(f".*{_NEW}"):
        shutil.rmtree(place, ignore_errors=True)


def version(job_list: JobList) -> str:
    """Changes whenever a list of entries would: told from the jobs' version and the times of the Library's folders."""
    job_list.jobs()
    seen = [job_list.version]
    for place in _folders(folder(job_list.workspace)):
        for note in ("entry.json", "answer.json"):
            try:
                facts = os.stat(place / note)
            except OSError:
                continue
            seen.append(f"{place.name}/{note}:{facts.st_mtime_ns}")
        seen.append(f"{place.name}:{is_held(place / '.lock')}")
    return "\n".join(sorted(seen))
