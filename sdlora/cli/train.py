"""`train`: create a job and wait for its end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sdlora import config
from sdlora.cli.dataset import find_or_import
from sdlora.cli.follow import follow
from sdlora.cli.options import JsonOption, WorkspaceOption, open_workspace, print_json
from sdlora.core.files import tail
from sdlora.jobs import store
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.spec import Outcome
from sdlora.library import catalog, publish


def train(
    dataset: Annotated[str, typer.Argument(help="Id of a data set, or a folder or zip of pictures.")],
    base: Annotated[
        str | None, typer.Option(help="`emoji`, a diffusers folder, a checkpoint file or a hub id. [default: emoji]")
    ] = None,
    preset: Annotated[str, typer.Option(help="Which settings to start from.")] = "style",
    set_: Annotated[list[str] | None, typer.Option("--set", help="section.name=value, as often as needed.")] = None,
    name: Annotated[str, typer.Option(help="Name of the file. [default: trigger word or data set]")] = "",
    out: Annotated[Path | None, typer.Option(help="Copy the chosen file here.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a LoRA and wait until it is done."""
    settings = config.resolve(preset, base, [config.parse_assignment(text) for text in set_ or []])
    opened = open_workspace(workspace)
    start = catalog.resolve_start_from(opened, settings, files=True)
    spec = store.create(opened, find_or_import(dataset, opened), settings, name, preset, start=start)
    watch(opened.job(spec.id), out, as_json)


def watch(paths: JobPaths, out: Path | None, as_json: bool) -> None:
    """Follow a job to its end and print its outcome; exit with the job's own code where that is not 0."""
    state = follow(paths)
    outcome = Outcome.read(paths)
    if outcome is None:
        print(
            f"The worker ended without a word ({state}). Go on with: python -m sdlora resume {paths.id}",
            file=sys.stderr,
        )
        print(tail(paths.log, 1000), file=sys.stderr)
        raise typer.Exit(1)
    if outcome.status in ("failed", "paused"):
        print(outcome.reason.en, file=sys.stderr)
        if outcome.exit_code == 1:
            print(f"The log is {paths.log}", file=sys.stderr)
        raise typer.Exit({64: 2, 0: 1}.get(outcome.exit_code, outcome.exit_code))
    file = _export(paths, outcome, out)
    if as_json:
        print_json(
            {
                "job": paths.id,
                "status": outcome.status,
                "steps": outcome.step,
                "seconds": round(outcome.seconds, 3),
                "file": str(file) if file else None,
                "sha256": outcome.sha256,
                "best_step": outcome.best_step,
                "recommended_strength": outcome.recommended_strength,
                "certificate": outcome.certificate.en,
            }
        )
        return
    print(f"{outcome.status} after {outcome.step} steps in {outcome.seconds:.0f} s")
    if file:
        print(f"{file}\nbest step {outcome.best_step}, recommended strength {outcome.recommended_strength}")
    if outcome.certificate.en:
        print(outcome.certificate.en)


def _export(paths: JobPaths, outcome: Outcome, out: Path | None) -> Path | None:
    """The chosen file, copied to `out` with its sidecar files where that is given."""
    if not outcome.file:
        return None
    file = paths.folder / outcome.file
    if out is None:
        return file
    return publish.export_file(paths, out.absolute())[0]
