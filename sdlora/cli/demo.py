"""`demo`: import, train, validate and export without a browser, on the bundled base and pictures."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from sdlora import config
from sdlora.cli.dataset import import_with_bar
from sdlora.cli.follow import follow
from sdlora.cli.options import JsonOption, WorkspaceOption, open_workspace, print_json
from sdlora.cli.progress_bar import progress_bar
from sdlora.core.environment import child_environment
from sdlora.core.events import Follower
from sdlora.core.fast_import import gc_paused
from sdlora.core.files import write_bytes
from sdlora.jobs import store
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.spec import Outcome
from sdlora.models.bases import EXAMPLE
from sdlora.render.contact_sheet import contact_sheet
from sdlora.render.loss_chart import loss_chart

PROMPTS = ("red apple", "cat face", "sailboat")
STRENGTHS = (0.0, 0.5, 1.0, 1.5)


def demo(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Import, train, judge, draw and export on what is bundled; takes a few minutes and no network."""
    opened = open_workspace(workspace)
    dataset = import_with_bar([EXAMPLE], opened, "demo")
    settings = config.resolve("style")
    spec = store.create(opened, dataset, settings, name="demo", preset="style")
    paths = opened.job(spec.id)
    if follow(paths) != "done":
        outcome = Outcome.read(paths)
        print(outcome.reason.en if outcome else f"The worker was killed; its log is {paths.log}", file=sys.stderr)
        raise typer.Exit(1)
    outcome = Outcome.read(paths)
    assert outcome is not None
    files = _export(paths, outcome, opened.root / "demo" / spec.name)
    report = {
        "job": spec.id,
        "status": outcome.status,
        "steps": outcome.step,
        "seconds": round(outcome.seconds, 3),
        "sha256": outcome.sha256,
        "best_step": outcome.best_step,
        "recommended_strength": outcome.recommended_strength,
        **{name: str(path) for name, path in files.items()},
    }
    if as_json:
        print_json(report)
        return
    print(
        f"Trained {outcome.step} steps in {outcome.seconds:.0f} s; recommended strength {outcome.recommended_strength}."
    )
    for name, path in files.items():
        print(f"{name:5} {path}")


def _export(paths: JobPaths, outcome: Outcome, folder: Path) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "file": folder / f"{folder.name}.safetensors",
        "loss": folder / "loss.svg",
        "sheet": folder / "strengths.png",
    }
    write_bytes(files["file"], (paths.folder / outcome.file).read_bytes())
    follower = Follower(paths.events)
    follower.poll()
    write_bytes(files["loss"], loss_chart(follower).encode())
    _draw_sheet(files["file"], files["sheet"])
    return files


def _draw_sheet(lora: Path, out: Path) -> None:
    """Prompts down, strengths across, one seed a row."""
    os.environ |= child_environment()  # before torch loads OpenMP
    with gc_paused():
        from sdlora.render.renderer import DrawRequest, open_renderer

    with progress_bar("drawing") as advance:
        renderer = open_renderer("emoji")
        renderer.load(lora)
        columns = []
        for number, strength in enumerate(STRENGTHS):
            renderer.set_strength(strength)
            columns.append([renderer.draw(DrawRequest(prompt, seed=row)) for row, prompt in enumerate(PROMPTS)])
            advance(number + 1, len(STRENGTHS))
    rows = [list(row) for row in zip(*columns, strict=True)]
    contact_sheet(rows, [f"{s:g}" for s in STRENGTHS]).save(out, "PNG")
