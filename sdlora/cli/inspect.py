"""`inspect`: the facts in a LoRA file's header."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdlora.cli.options import JsonOption, print_json
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.lora_files.inspect import inspect_file


def inspect(
    file: Annotated[Path, typer.Argument(help="A LoRA file, or a folder with one.")], as_json: JsonOption = False
) -> None:
    """Say what a LoRA is: format, maker, family, rank, targets, metadata."""
    if not file.exists():
        raise BadInput(Text(f"{file} does not exist.", f"{file} がありません。"))
    inspection = inspect_file(file)
    if as_json:
        print_json(inspection.as_json())
        return
    for name, value in inspection.as_json().items():
        if name != "metadata":
            print(f"{name:12} {value}")
    for name, value in sorted(inspection.metadata.items()):
        print(f"  {name} = {value if len(value) < 200 else value[:197] + '...'}")
