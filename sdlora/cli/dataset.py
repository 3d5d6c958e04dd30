"""`dataset add` and `dataset check`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from sdlora.cli.options import JsonOption, WorkspaceOption, open_workspace, print_json
from sdlora.cli.progress_bar import progress_bar
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.data import Dataset, import_pictures, limits, open_dataset
from sdlora.data.checks.doctor import check as check_dataset
from sdlora.jobs.paths import Workspace
from sdlora.models import bases

SD15_RESOLUTION = 512
app = typer.Typer(help="Import and check picture sets.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def add(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, folders or zips; captions lie beside the pictures.")],
    name: Annotated[str | None, typer.Option(help="Name of the set. [default: of the first path]")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import pictures with their captions."""
    dataset = import_with_bar(paths, open_workspace(workspace), name)
    if as_json:
        print_json(summary(dataset))
        return
    print(f"{dataset.id}  {dataset.name}: {len(dataset.items)} pictures")
    for skipped in dataset.skipped:
        print(f"  left out: {skipped.name}: {skipped.reason.en}")
    for note in dataset.notes:
        print(f"  note: {note.en}")


@app.command()
def check(
    dataset: Annotated[str, typer.Argument(help="Id of a data set, or a folder or zip.")],
    base: Annotated[str, typer.Option(help="Judge sizes for this base. [default: for 512 pixels, as SD 1.5]")] = "",
    resolution: Annotated[int, typer.Option(min=0, max=4096, help="Judge sizes for this `train.resolution`.")] = 0,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for what usually goes wrong: duplicates, blur, small pictures, missing captions."""
    with open_or_import_temporarily(dataset, open_workspace(workspace)) as opened:
        findings = check_dataset(opened, resolution or _resolution_of(base))
    if as_json:
        rows = [
            {"code": f.code, "severity": f.severity, "items": list(f.items), "text": f.text.en, "fix": f.fix.en}
            for f in findings
        ]
        print_json({"findings": rows})
        return
    for f in findings:
        print(f"{f.severity}: {f.text.en} {f.fix.en}")
    if not findings:
        print("Nothing to complain about.")


def _resolution_of(base: str) -> int:
    """Pixels of a side that a base is trained at; those of SD 1.5 where none is named or it is not on this machine.

    Raises:
        BaseUnusable: no such base.
    """
    facts = bases.facts(bases.resolve_base(base)) if base else None
    return facts.resolution if facts else SD15_RESOLUTION


def find_or_import(dataset: str, workspace: Workspace) -> Dataset:
    """The data set of this id, or one imported from this path.

    Raises:
        BadInput: neither an id nor a path, or nothing usable there.
    """
    existing = workspace.datasets / dataset
    if "/" not in dataset and dataset not in (".", "..") and (existing / "dataset.json").is_file():
        return open_dataset(existing)
    path = Path(dataset)
    if not path.exists():
        raise BadInput(
            Text(
                f"{dataset} is neither the id of a data set nor a folder or zip.",
                f"{dataset} はデータセットの ID でもフォルダーや zip でもありません。",
            )
        )
    return import_with_bar([path], workspace, None)


@contextmanager
def open_or_import_temporarily(dataset: str, workspace: Workspace) -> Iterator[Dataset]:
    """Like `find_or_import`, but what is imported from a path is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Workspace(Path(folder)).make()
        yield find_or_import(dataset, temporary if Path(dataset).exists() else workspace)


def import_with_bar(paths: list[Path], workspace: Workspace, name: str | None) -> Dataset:
    missing = [p for p in paths if not p.exists()]
    if missing:
        raise BadInput(Text(f"{missing[0]} does not exist.", f"{missing[0]} がありません。"))
    with progress_bar("importing") as advance:
        maximum = limits.LOCAL_FOLDER if all(p.is_dir() for p in paths) else limits.UPLOAD
        return import_pictures(paths, workspace.datasets, name, advance, maximum)


def summary(dataset: Dataset) -> dict[str, object]:
    """The JSON object of `dataset add --json`."""
    return {
        "id": dataset.id,
        "items": [{"name": i.name, "width": i.width, "height": i.height, "caption": i.caption} for i in dataset.items],
        "skipped": [{"name": s.name, "reason": s.reason.en} for s in dataset.skipped],
        "notes": [n.en for n in dataset.notes],
    }
