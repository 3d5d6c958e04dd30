"""`inspect`, `settings` and `doctor`: what a file, the settings and this machine are."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sdlora import __version__, config
from sdlora.cli.options import JsonOption, WorkspaceOption, open_workspace, print_json
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.lora_files.inspect import inspect_file


def inspect(
    file: Annotated[Path, typer.Argument(help="A LoRA file, or a folder with one.")], as_json: JsonOption = False
) -> None:
    """Say what a LoRA is: format, maker, family, rank, targets, metadata."""
    if not file.exists():
        raise BadInput(Text(f"{file} does not exist.", f"{file} がありません。"))
    found = inspect_file(file)
    if as_json:
        print_json(found.as_json())
        return
    for name, value in found.as_json().items():
        if name != "metadata":
            print(f"{name:12} {value}")
    for name, value in sorted(found.metadata.items()):
        print(f"  {name} = {value if len(value) < 200 else value[:197] + '...'}")


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


def doctor(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Say what this machine can do: device, precision, memory, versions, room on the disk."""
    place = open_workspace(workspace)
    found = {**_machine(), "disk_free_gb": round(shutil.disk_usage(place.root).free / 1e9, 1), "versions": _versions()}
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        print(f"{name:14} {value}")


def _machine() -> dict[str, Any]:
    import torch

    from sdlora.models.load import SMALL, default_device, resolve_dtype

    device = default_device()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "precision": str(resolve_dtype("auto", device, SMALL + 1)).removeprefix("torch."),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
    }
    if device.type == "cuda":
        found["device_memory_gb"] = round(torch.cuda.get_device_properties(device).total_memory / 1e9, 1)
    return found


def _versions() -> dict[str, str]:
    found = {"sdlora": __version__, "python": sys.version.split()[0]}
    for package in ("torch", "diffusers", "transformers", "peft", "accelerate", "gradio", "bitsandbytes", "prodigyopt"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    return found
