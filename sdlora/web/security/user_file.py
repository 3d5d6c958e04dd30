"""The user file (`--users-file`): names with hashed passwords and tokens, one user a line."""

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
from sdlora.jobs.ownership import User
from sdlora.jobs.paths import Workspace

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
SCRYPT = {"n": 2**14, "r": 8, "p": 1}  # 16 MB and some 50 ms a guess


@dataclass(frozen=True)
class UserRecord:
    """One line of the file: `name:admin|user:salt:hash:hash of the token`."""

    user: User
    salt: bytes
    password: bytes
    token: bytes

    def line(self) -> str:
        role = "admin" if self.user.admin else "user"
        return ":".join((self.user.name, role, self.salt.hex(), self.password.hex(), self.token.hex()))

    @staticmethod
    def read(line: str) -> UserRecord:
        name, role, *rest = line.split(":")
        salt, password, token = (bytes.fromhex(part) for part in rest)
        if not NAME.fullmatch(name) or role not in ("admin", "user") or not password:
            raise ValueError
        return UserRecord(User(name, role == "admin"), salt, password, token)


@dataclass(frozen=True)
class UserFile:
    """All records of a user file, by name."""

    records: dict[str, UserRecord]

    @staticmethod
    def read(file: Path) -> UserFile:
        """Raises BadInput for a malformed line, OSError for a missing file."""
        records: dict[str, UserRecord] = {}
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            try:
                record = UserRecord.read(line)
            except ValueError:
                raise BadInput(
                    Text(
                        f"Line {number} of {file.name} is no user. Make lines by: python -m sdlora user add NAME",
                        f"{file.name} の {number} 行目はユーザーとして読めません。python -m sdlora user add NAME で作成してください。",
                    )
                ) from None
            records[record.user.name] = record
        return UserFile(records)

    def write(self, file: Path) -> None:
        write_bytes(file, "".join(f"{record.line()}\n" for record in self.records.values()).encode())
        file.chmod(0o600)

    def by_password(self, name: str, password: str) -> User | None:
        """The user, or None. Takes equally long for unknown names, so that timing does not reveal which names exist."""
        record = self.records.get(name)
        given = _scrypt_hash(password, record.salt if record else b"nobody")
        return record.user if record and hmac.compare_digest(given, record.password) else None

    def by_token(self, token: str) -> User | None:
        given = _token_hash(token)
        found = [record.user for record in self.records.values() if hmac.compare_digest(given, record.token)]
        return found[0] if found else None


def new_record(name: str, password: str, admin: bool) -> tuple[UserRecord, str]:
    """A record for the file, and its token, which is shown only once. Raises BadInput for an unusable name or password."""
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
    return UserRecord(User(name, admin), salt, _scrypt_hash(password, salt), _token_hash(token)), token


def workspace_token(workspace: Workspace) -> str:
    """The API token of an installation without a user file: created on first use, readable by the workspace's owner only (mode 0600)."""
    file = workspace.root / "api-token"
    if not file.exists():
        write_bytes(file, f"{secrets.token_urlsafe(32)}\n".encode())
        file.chmod(0o600)
    return file.read_text().strip()


def _scrypt_hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(errors="replace"), salt=salt, **SCRYPT)


def _token_hash(token: str) -> bytes:
    """Unsalted: a token has 256 random bits."""
    return hashlib.sha256(token.encode(errors="replace")).digest()
