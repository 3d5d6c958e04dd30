"""Several people on one machine: a file of names with hashed passwords, and who may see whose jobs and data sets."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from sdlora.core.errors import BadInput
from sdlora.core.files import write_bytes
from sdlora.core.text import Text
from sdlora.jobs.paths import Workspace, checked_id

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
SCRYPT = {"n": 2**14, "r": 8, "p": 1}  # 16 MB and some 50 ms a guess


@dataclass(frozen=True)
class User:
    """Who asks. An admin sees everybody's jobs and data sets."""

    name: str
    admin: bool


# Without a file of users there is one of them, who may do everything.
EVERYBODY = User("", True)


@dataclass(frozen=True)
class Entry:
    """One line of the file: `name:admin|user:salt:hash:hash of the token`."""

    user: User
    salt: bytes
    password: bytes
    token: bytes

    def line(self) -> str:
        role = "admin" if self.user.admin else "user"
        return ":".join((self.user.name, role, self.salt.hex(), self.password.hex(), self.token.hex()))

    @staticmethod
    def read(line: str) -> Entry:
        name, role, *rest = line.split(":")
        salt, password, token = (bytes.fromhex(part) for part in rest)
        if not NAME.fullmatch(name) or role not in ("admin", "user") or not password:
            raise ValueError
        return Entry(User(name, role == "admin"), salt, password, token)


@dataclass(frozen=True)
class Users:
    """All lines of a file."""

    entries: dict[str, Entry]

    @staticmethod
    def read(file: Path) -> Users:
        """Raises BadInput for a line that is none, OSError where there is no file."""
        entries: dict[str, Entry] = {}
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            try:
                entry = Entry.read(line)
            except ValueError:
                raise BadInput(
                    Text(
                        f"Line {number} of {file.name} is no user. Make lines by: python -m sdlora user add NAME",
                        f"{file.name} の {number} 行目はユーザーとして読めません。python -m sdlora user add NAME で作成してください。",
                    )
                ) from None
            entries[entry.user.name] = entry
        return Users(entries)

    def write(self, file: Path) -> None:
        write_bytes(file, "".join(f"{entry.line()}\n" for entry in self.entries.values()).encode())
        file.chmod(0o600)

    def by_password(self, name: str, password: str) -> User | None:
        """Takes as long for a name that does not exist as for one that does."""
        entry = self.entries.get(name)
        given = _stretched(password, entry.salt if entry else b"nobody")
        return entry.user if entry and hmac.compare_digest(given, entry.password) else None

    def by_token(self, token: str) -> User | None:
        given = _digest(token)
        found = [entry.user for entry in self.entries.values() if hmac.compare_digest(given, entry.token)]
        return found[0] if found else None


def new_entry(name: str, password: str, admin: bool) -> tuple[Entry, str]:
    """A line for the file, and the token that is told once. Raises BadInput for a name or password that will not do."""
    if not NAME.fullmatch(name):
        raise BadInput(
            Text(
                f"{name[:40]!r} is no user name: small letters, digits and dashes, 32 at most.",
                f"{name[:40]!r} はユーザー名に使えません。英小文字・数字・ハイフンで 32 文字までです。",
            )
        )
    if len(password) < 8:
        raise BadInput(Text("A password has 8 characters or more.", "パスワードは 8 文字以上にしてください。"))
    salt, token = secrets.token_bytes(16), secrets.token_urlsafe(32)
    return Entry(User(name, admin), salt, _stretched(password, salt), _digest(token)), token


def own_token(workspace: Workspace) -> str:
    """The token for scripts where there is no file of users: made once, readable by the owner of the workspace alone."""
    file = workspace.root / "api-token"
    if not file.exists():
        write_bytes(file, f"{secrets.token_urlsafe(32)}\n".encode())
        file.chmod(0o600)
    return file.read_text().strip()


def may_see(user: User, owner: str) -> bool:
    return user.admin or user.name == owner


def claim(workspace: Workspace, user: User, dataset: str) -> None:
    """This user has imported or made this data set. Two who import the same pictures both have it."""
    if user.name:
        mark = _mark(workspace, user, dataset)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def has_claimed(workspace: Workspace, user: User, dataset: str) -> bool:
    return user.admin or _mark(workspace, user, dataset).exists()


def _mark(workspace: Workspace, user: User, dataset: str) -> Path:
    return workspace.root / "owners" / user.name / checked_id(dataset)


def _stretched(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(errors="replace"), salt=salt, **SCRYPT)


def _digest(token: str) -> bytes:
    """A token is random enough as it is."""
    return hashlib.sha256(token.encode(errors="replace")).digest()
