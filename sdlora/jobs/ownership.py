"""Who may see whose jobs and data sets, where several people share one workspace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdlora.jobs.paths import Workspace, checked_id


@dataclass(frozen=True)
class User:
    """An authenticated person. An admin sees everybody's jobs and data sets."""

    name: str
    admin: bool


# The one user of an installation without a user file: may do everything, owns what has no owner.
LOCAL_ADMIN = User("", True)


def may_see(user: User, owner: str) -> bool:
    """Whether the user may see a job or a LoRA of the user named `owner`."""
    return user.admin or user.name == owner


def claim(workspace: Workspace, user: User, dataset: str) -> None:
    """Record that this user has imported or edited this data set. Users who import the same pictures all own it."""
    if user.name:
        marker = _claim_marker(workspace, user, dataset)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()


def has_claimed(workspace: Workspace, user: User, dataset: str) -> bool:
    return user.admin or _claim_marker(workspace, user, dataset).exists()


def _claim_marker(workspace: Workspace, user: User, dataset: str) -> Path:
    return workspace.root / "owners" / user.name / checked_id(dataset)
