"""`user add`, `user list`, `user remove`: the file for `sdlora app --users-file`."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.web.security.user_file import UserFile, new_record

app = typer.Typer(help="People who share one machine.", no_args_is_help=True, rich_markup_mode=None)
FileOption = Annotated[Path, typer.Option("--file", help="The file that sdlora app --users-file reads.")]
NameArgument = Annotated[str, typer.Argument(help="Small letters, digits and dashes.")]


@app.command()
def add(
    name: NameArgument,
    file: FileOption = Path("users"),
    admin: Annotated[bool, typer.Option("--admin", help="Sees everybody's jobs and data sets.")] = False,
) -> None:
    """Add a user, or give one a new password and token. The password is asked for, or read from a pipe."""
    password = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    record, token = new_record(name, password, admin)
    users = _read(file)
    UserFile({**users.records, name: record}).write(file)
    print(f"{name} may enter after the next start of the app. Token for scripts, told only now: {token}")


@app.command("list")
def list_users(file: FileOption = Path("users")) -> None:
    """Say who may enter."""
    for record in _read(file).records.values():
        print(f"{record.user.name}{' (admin)' if record.user.admin else ''}")


@app.command()
def remove(name: NameArgument, file: FileOption = Path("users")) -> None:
    """Take a user out of the file; jobs and data sets stay."""
    users = _read(file)
    if name not in users.records:
        raise BadInput(Text(f"There is no user {name[:40]!r}.", f"ユーザー {name[:40]!r} はいません。"))
    UserFile({k: v for k, v in users.records.items() if k != name}).write(file)


def _read(file: Path) -> UserFile:
    return UserFile.read(file) if file.exists() else UserFile({})
