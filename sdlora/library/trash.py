"""The Library's wastebasket: deleted entries can be restored for a week."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from sdlora.core.errors import BadInput
from sdlora.core.files import read_json
from sdlora.core.text import Text
from sdlora.jobs.lock import is_held
from sdlora.jobs.ownership import LOCAL_ADMIN, User, may_see
from sdlora.jobs.paths import Workspace, checked_id
from sdlora.library.catalog import LibraryEntry, entry_home, get_entry, list_folders

MAX_DAYS = 7  # in the wastebasket, before an entry is removed for good


def delete(workspace: Workspace, id: str, user: User = LOCAL_ADMIN) -> LibraryEntry:
    """Move an entry into the wastebasket, a trained one with its job; `restore` brings it back.

    Raises:
        BadInput: it is still being trained or made, or there is no such entry.
    """
    entry = get_entry(workspace, id, user)
    home = entry_home(workspace, id)
    if is_held(home / ".lock"):
        raise BadInput(Text(f"“{entry.name}” is still being made.", f"「{entry.name}」はまだ作成中です。"))
    _folder(workspace).mkdir(exist_ok=True)
    home.rename(_folder(workspace) / id)
    return entry


def restore(workspace: Workspace, id: str, user: User = LOCAL_ADMIN) -> LibraryEntry:
    """Put a deleted entry back. Raises BadInput where it is not in the wastebasket."""
    deleted, home = _folder(workspace) / checked_id(id), entry_home(workspace, id)
    if not deleted.is_dir() or home.exists() or not may_see(user, _note(deleted, "owner", "")):
        raise BadInput(Text("It is gone for good.", "すでに完全に削除されています。"))
    deleted.rename(home)
    return get_entry(workspace, id)


@dataclass(frozen=True)
class TrashItem:
    """A deleted entry as the wastebasket lists it."""

    id: str
    name: str
    size: int  # bytes on the disk
    seconds: float  # since it was deleted


def list_trash(workspace: Workspace, user: User = LOCAL_ADMIN) -> list[TrashItem]:
    """What this user can restore, the last deleted first."""
    return [
        TrashItem(
            p.name, _note(p, "name", p.name), sum(f.lstat().st_size for f in p.rglob("*")), time.time() - _deleted_at(p)
        )
        for p in _deleted_folders(workspace, user)
    ]


def _deleted_at(folder: Path) -> float:
    return folder.stat().st_ctime  # set by the rename


def _deleted_folders(workspace: Workspace, user: User) -> list[Path]:
    """Folders of the entries that this user deleted, the last deleted first."""
    visible = [p for p in list_folders(_folder(workspace)) if may_see(user, _note(p, "owner", ""))]
    return sorted(visible, key=_deleted_at, reverse=True)


def _note(folder: Path, key: str, default: str) -> str:
    """A value of the deleted entry's own metadata; a renamed job's `library.json` comes first."""
    for file in ("library.json", "entry.json", "job.json"):
        try:
            return str(read_json(folder / file)[key])
        except (OSError, ValueError, KeyError):
            continue
    return default


def empty_trash(workspace: Workspace, days: float = 0.0, user: User = LOCAL_ADMIN) -> None:
    """Remove for good what was deleted more than `days` ago."""
    for folder in _deleted_folders(workspace, user):
        if time.time() - _deleted_at(folder) >= days * 86400:
            shutil.rmtree(folder, ignore_errors=True)


def _folder(workspace: Workspace) -> Path:
    return workspace.root / "trash"
