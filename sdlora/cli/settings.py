"""`settings`: every setting with default, range and help."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sdlora import config
from sdlora.cli.options import JsonOption, print_json


def settings(
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As the table in the README.")] = False,
) -> None:
    """List every setting with its default, range and help."""
    if as_json:
        print_json({"settings": [_row(s) for s in config.settings()]})
        return
    if markdown:
        print(settings_table(), end="")
        return
    table = Table("setting", "default", "range", "help", box=None)
    for s in config.settings():
        table.add_row(s.path, str(s.default), _range(s), f"{s.help.en}\n{s.help.ja}")
    Console().print(table)


def settings_table() -> str:
    """All settings as a Markdown table."""
    rows = ["| setting | default | range | what it does |", "|---|---|---|---|"]
    for s in config.settings():
        default = str(s.default).lower() if s.kind == "bool" else str(s.default) or "(empty)"
        rows.append(f"| `{s.path}` | {default} | {_range(s).replace('|', '/')} | {s.help.en} |")
    return "\n".join(rows) + "\n"


def _row(s: config.Setting) -> dict[str, Any]:
    return {
        "path": s.path,
        "kind": s.kind,
        "default": s.default,
        "minimum": s.minimum,
        "maximum": s.maximum,
        "choices": list(s.choices),
        "label": {"en": s.label.en, "ja": s.label.ja},
        "help": {"en": s.help.en, "ja": s.help.ja},
    }


def _range(s: config.Setting) -> str:
    if s.choices:
        return " | ".join(s.choices)
    return "" if s.minimum is None else f"{s.minimum:g} to {s.maximum:g}"
