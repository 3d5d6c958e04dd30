"""`train`, `resume`, `stop` and `jobs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sdlora import config
from sdlora.cli.dataset import find_or_import
from sdlora.cli.follow import follow
from sdlora.cli.options import JsonOption, WorkspaceOption, open_workspace, print_json
from sdlora.core.files import tail
from sdlora.jobs import runner, store
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
    place = open_workspace(workspace)
    start = catalog.resolve_start_from(place, settings, files=True)
    spec = store.create(place, find_or_import(dataset, place), settings, name, preset, start=start)
    watch(place.job(spec.id), out, as_json)


def resume(
    job: Annotated[str, typer.Argument(help="Id of an interrupted, stopped or failed job.")],
    more: Annotated[int, typer.Option(min=0, help="Train a finished job so many steps longer, as a new job.")] = 0,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on where the last saved state of a job left off."""
    place = open_workspace(workspace)
    if more:
        paths = place.job(store.extend(place, job, more).id)
    else:
        paths = place.job(store.get_spec(place, job).id)
        runner.resume(paths)
    watch(paths, None, as_json)


def stop(job: Annotated[str, typer.Argument(help="Id of the job.")], workspace: WorkspaceOption = None) -> None:
    """Ask a job to finish its step, save and leave."""
    place = open_workspace(workspace)
    runner.stop(place.job(store.get_spec(place, job).id))


def jobs(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List all jobs, newest first."""
    place = open_workspace(workspace)
    found = runner.jobs(place)
    if as_json:
        rows = [
            {
                "id": j.spec.id,
                "name": j.spec.name,
                "status": j.status,
                "place": j.queue_position,
                "created": j.spec.created,
                "node": j.node,
            }
            for j in found
        ]
        print_json({"jobs": rows})
        return
    table = Table("id", "name", "status", "step", box=None)
    for j in found:
        outcome = Outcome.read(place.job(j.spec.id))
        step = outcome.step if outcome else place.job(j.spec.id).saved_step()
        words = f"{j.status}, place {j.queue_position}" if j.queue_position else j.status
        table.add_row(j.spec.id, j.spec.name, words, f"{step} of {j.spec.settings.train.steps}")
    Console().print(table)


def watch(paths: JobPaths, out: Path | None, as_json: bool) -> None:
    """Follow a job to its end and say how it ended; leaves with the job's own exit code where that is not 0."""
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
    file = _delivered(paths, outcome, out)
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


def _delivered(paths: JobPaths, outcome: Outcome, out: Path | None) -> Path | None:
    if not outcome.file:
        return None
    file = paths.folder / outcome.file
    if out is None:
        return file
    return publish.export_file(paths, out.absolute())[0]
