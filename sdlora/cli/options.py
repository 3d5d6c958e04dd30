"""Options and output shared by several commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sdlora.jobs.paths import Workspace, default_workspace

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", help="Folder of data sets and jobs. [default: $SDLORA_WORKSPACE or ./workspace]"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


def open_workspace(folder: Path | None) -> Workspace:
    return Workspace(folder.absolute() if folder else default_workspace()).make()


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, allow_nan=False))
