"""`resume`, `stop` and `jobs`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sdlora.cli.options import JsonOption, WorkspaceOption, open_workspace, print_json
from sdlora.cli.train import watch
from sdlora.jobs import runner, store
from sdlora.jobs.spec import Outcome


def resume(
    job: Annotated[str, typer.Argument(help="Id of an interrupted, stopped or failed job.")],
    more: Annotated[int, typer.Option(min=0, help="Train a finished job so many steps longer, as a new job.")] = 0,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on where the last saved state of a job left off."""
    opened = open_workspace(workspace)
    if more:
        paths = opened.job(store.extend(opened, job, more).id)
    else:
        paths = opened.job(store.get_spec(opened, job).id)
        runner.resume(paths)
    watch(paths, None, as_json)


def stop(job: Annotated[str, typer.Argument(help="Id of the job.")], workspace: WorkspaceOption = None) -> None:
    """Ask a job to finish its step, save and leave."""
    opened = open_workspace(workspace)
    runner.stop(opened.job(store.get_spec(opened, job).id))


def jobs(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List all jobs, newest first."""
    opened = open_workspace(workspace)
    listed = runner.jobs(opened)
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
            for j in listed
        ]
        print_json({"jobs": rows})
        return
    table = Table("id", "name", "status", "step", box=None)
    for j in listed:
        outcome = Outcome.read(opened.job(j.spec.id))
        step = outcome.step if outcome else opened.job(j.spec.id).saved_step()
        words = f"{j.status}, place {j.queue_position}" if j.queue_position else j.status
        table.add_row(j.spec.id, j.spec.name, words, f"{step} of {j.spec.settings.train.steps}")
    Console().print(table)
