"""The Library's entries: LoRAs trained here, uploaded ones, and files that `tasks` derives from others.

`library/<id>/` holds `entry.json`, one `.safetensors` file (of a PEFT adapter: `peft/`) and, of a derived one, the files of its task.
A trained LoRA stays in its job's folder; only a changed name lies beside it. Users see their own entries, an admin all.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
Origin = Literal["trained", "added", "merged", "resized", "converted", "extracted"]
FILE_PREFIX = "file-"  # of the ids of entries in `library/`; any other id is a job's
_TEMPORARY = ".new"  # ending of the hidden folder of an entry that is being filled


@dataclass(frozen=True)
class LibraryEntry:
    """One LoRA. `file` may not exist yet, see `tasks.status`; `sources` are the names of the entries it was derived from."""

    id: str
    name: str  # its file's, without the ending
    created: float  # unix time, seconds
    origin: Origin
    file: Path
    sources: tuple[str, ...] = ()
    base: str = ""  # the base model it was trained on
    sha256: str = ""  # "" of a derived file
    owner: str = ""  # name of the user who trained, uploaded or derived it

    @property
    def home(self) -> Path:
        """The entry's folder in the Library; of a trained one, the folder of its checkpoints."""
        return self.file.parent


def folder(workspace: Workspace) -> Path:
    return workspace.root / "library"


def list_entries(
    workspace: Workspace, user: User = LOCAL_ADMIN, jobs: Iterable[Job] | None = None
) -> list[LibraryEntry]:
    """All that this user may see, newest first. `jobs` that the caller has listed already are not read again."""
    jobs = runner.jobs(workspace) if jobs is None else jobs
    trained = [e for e in (_from_job(workspace, job.spec, job.outcome) for job in jobs) if e and may_see(user, e.owner)]
    return sorted(trained + list_untrained(workspace, user), key=lambda e: (e.created, e.id), reverse=True)


def list_untrained(workspace: Workspace, user: User = LOCAL_ADMIN) -> list[LibraryEntry]:
    """Uploaded and derived entries, unfinished ones included."""
    entries = [e for e in map(_from_folder, list_folders(folder(workspace))) if e]
    return [e for e in entries if may_see(user, e.owner)]


def get_entry(workspace: Workspace, id: str, user: User = LOCAL_ADMIN) -> LibraryEntry:
    """Raises BadInput where no entry of this id is visible to the user."""
    checked_id(id)
    try:
        if id.startswith(FILE_PREFIX):
            entry = _from_folder(folder(workspace) / id)
        else:
            entry = _from_job(workspace, store.get_spec(workspace, id), Outcome.read(workspace.job(id)))
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


def _from_job(workspace: Workspace, spec: JobSpec, outcome: Outcome | None) -> LibraryEntry | None:
    paths = workspace.job(spec.id)
    if outcome is None or not outcome.file or not (paths.folder / outcome.file).is_file():
        return None
    name = read_json(paths.name)["name"] if paths.name.is_file() else spec.name
    file = paths.folder / outcome.file
    return LibraryEntry(spec.id, name, spec.created, "trained", file, (), spec.base, outcome.sha256, spec.owner)


def _from_folder(place: Path) -> LibraryEntry | None:
    try:
        values = read_json(place / "entry.json")
    except (OSError, ValueError):
        return None
    written = sorted(place.glob("*.safetensors")) + [p for p in [place / PEFT] if p.is_dir()]
    file = written[0] if written else place / f"{values['name']}.safetensors"
    return LibraryEntry(id=place.name, sources=tuple(values.pop("of")), file=file, **values)


def list_folders(parent: Path) -> Iterator[Path]:
    """Subfolders by name, hidden ones left out."""
    for place in sorted(parent.iterdir()) if parent.is_dir() else ():
        if not place.name.startswith("."):
            yield place


def add_file(workspace: Workspace, source: Path, name: str, user: User = LOCAL_ADMIN) -> LibraryEntry:
    """Move a LoRA file into the Library. Its header is checked, its weights are not read.

    Raises:
        BadInput: not a whole safetensors file, not a LoRA, or in the Library already.
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
    """Compare a derived file, whose sha256 is not stored; it is read only where the sizes are equal."""
    file = entry.file
    return (
        not entry.sha256
        and file.is_file()
        and file.stat().st_size == source.stat().st_size
        and sha256_of(file) == digest
    )


def new_entry(
    workspace: Workspace, name: str, origin: Origin, sources: tuple[str, ...] = (), base: str = ""
) -> LibraryEntry:
    """Choose id and unique name of an entry; nothing is written yet, see `entry_folder`."""
    taken = {e.name for e in list_entries(workspace)}
    id = f"{FILE_PREFIX}{store.new_id()}"
    name = store.unique_name(store.file_name(name), taken)
    file = folder(workspace) / id / f"{name}.safetensors"  # the file's metadata will hold this name too
    return LibraryEntry(id, name, time.time(), origin, file, sources, base)


@contextmanager
def entry_folder(workspace: Workspace, entry: LibraryEntry) -> Iterator[Path]:
    """The temporary folder of a new entry, to be filled in the block; becomes visible under its id unless the block raises."""
    final = folder(workspace) / entry.id
    temporary = final.with_name(f".{entry.id}{_TEMPORARY}")
    temporary.mkdir(parents=True)
    try:
        values = asdict(entry)
        values["of"] = values.pop("sources")
        write_json(temporary / "entry.json", {k: v for k, v in values.items() if k not in ("id", "file")})
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    temporary.rename(final)
    sync_folder(final.parent)


def rename(workspace: Workspace, id: str, name: str, user: User = LOCAL_ADMIN) -> LibraryEntry:
    """Change an entry's name. The file's bytes stay as they were verified and hashed.

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


def entry_home(workspace: Workspace, id: str) -> Path:
    """The folder that is deleted and restored with an entry: its own, or its job's."""
    return (folder(workspace) if id.startswith(FILE_PREFIX) else workspace.jobs) / id


def clear_temporaries(workspace: Workspace) -> None:
    """Remove half-filled entries of killed processes."""
    for place in folder(workspace).glob(f".*{_TEMPORARY}"):
        shutil.rmtree(place, ignore_errors=True)


def version(job_list: JobList) -> str:
    """Changes whenever `list_entries` would; made of the jobs' version and the mtimes in the Library's folders."""
    job_list.jobs()
    parts = [job_list.version]
    for place in list_folders(folder(job_list.workspace)):
        for name in ("entry.json", "answer.json"):
            try:
                facts = os.stat(place / name)
            except OSError:
                continue
            parts.append(f"{place.name}/{name}:{facts.st_mtime_ns}")
        parts.append(f"{place.name}:{is_held(place / '.lock')}")
    return "\n".join(sorted(parts))
