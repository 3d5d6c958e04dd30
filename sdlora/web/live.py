"""The one timer of the page: reads what the worker wrote and sends only the parts that changed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from sdlora import config, data
from sdlora.core import files
from sdlora.core.errors import BadInput
from sdlora.core.events import Follower
from sdlora.jobs import runner
from sdlora.jobs.ownership import may_see
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.spec import Outcome
from sdlora.web.context import Page
from sdlora.web.handlers import event
from sdlora.web.screens import train
from sdlora.web.screens.pictures import Pictures
from sdlora.web.screens.preview import Preview
from sdlora.web.screens.train import Training
from sdlora.web.strings import words
from sdlora.web.views import progress, queue_notes, verdict
from sdlora.web.views.gallery import empty


@dataclass(frozen=True)
class Snapshot:
    """One look at everything that the live parts are drawn from."""

    jobs: list[runner.Job]  # the newest that this user may see
    more: int  # older ones
    busy: bool  # whether a new job would wait, for whoever's
    notes: queue_notes.Notes
    job: runner.Job | None  # the one that the page shows
    paths: JobPaths | None
    outcome: Outcome | None
    pictures: bool
    choice: Any  # of the checkpoint field


def build(page: Page, timer: gr.Timer, pictures: Pictures, train: Training, preview: Preview) -> None:
    # Fingerprints of what the page shows. They are kept there: the server cannot know which of its answers arrived last.
    sent = gr.Textbox("{}", visible="hidden", elem_id="sent")
    parts: dict[str, Component] = {
        "start": train.start,
        "stop": train.stop,
        "resume": train.resume,
        "more": train.more,
        "hint": train.hint,
        "status": train.status,
        "loss": train.loss,
        "samples": train.samples,
        "log": train.log,
        "jobs": train.jobs,
        "checkpoint": preview.checkpoint,
        "strength": preview.strength,
        "verdict": preview.verdict,
        "draw": preview.button,
    }
    gr.on(
        [timer.tick, train.job.change, preview.checkpoint.input],
        event(page, tick, tuple(parts)),
        [train.job, *pictures.current, preview.checkpoint, sent],
        [*parts.values(), timer, sent],
        show_progress="hidden",
        queue=False,
        trigger_mode="always_last",  # one look at a time
    )
    train.job.change(
        event(page, initialise),
        [train.job, preview.initialised_for],
        preview.initial,
        show_progress="hidden",
    )


def tick(
    page: Page,
    parts: tuple[str, ...],
    job_id: Any,
    history: list[str],
    remembered: Any,
    choice: Any,
    sent: str,
) -> list[Any]:
    """The parts that changed since the last time, when to ask again, and the fingerprints of what the page shows from now on."""
    shown = _read(sent)
    seconds = page.site.polling.interval(page.session)
    again = gr.skip() if shown.get("seconds", 1) == seconds else gr.update(value=seconds)
    snapshot = look(page, job_id, bool(history or remembered), choice)
    with page.site.events.follow(snapshot.paths or _nowhere(page)) as follower:
        stamp = _print_of((snapshot, follower.offset, files.tail(snapshot.paths.log, 200) if snapshot.paths else ""))
        if shown.get("stamp") == stamp:
            return [*[gr.skip()] * len(parts), again, json.dumps({**shown, "seconds": seconds})]
        values = draw(page, snapshot, follower)
    prints = {part: _print_of(values[part]) for part in parts}
    changed = [values[part] if prints[part] != shown.get(part) else gr.skip() for part in parts]
    return [*changed, again, json.dumps({**prints, "stamp": stamp, "seconds": seconds})]


def _read(sent: str) -> dict[str, Any]:
    """What the browser says it shows; whatever else it says counts as nothing."""
    try:
        shown = json.loads(sent or "{}")
    except ValueError:
        return {}
    return shown if isinstance(shown, dict) else {}


def _print_of(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def look(page: Page, job_id: Any, pictures: bool, choice: Any) -> Snapshot:
    every = page.site.job_list.jobs()
    jobs = [job for job in every if may_see(page.user, job.spec.owner)]
    newest = jobs[: progress.SHOWN_JOBS]
    busy = any(job.status in ("running", "stopping", "queued") for job in every)
    job = next((j for j in jobs if j.spec.id == job_id), None)  # an id from the browser names a job, or nothing
    paths = page.workspace.job(job.spec.id) if job else None
    ended = job is not None and job.status in ("done", "stopped", "failed", "paused")
    outcome = Outcome.read(paths) if paths and ended else None
    notes = queue_notes.queue_notes(page, every, [*newest, job] if job else newest)
    return Snapshot(newest, len(jobs) - len(newest), busy, notes, job, paths, outcome, pictures, choice)


def draw(page: Page, snapshot: Snapshot, follower: Follower) -> dict[str, Any]:
    """Every live part by its name."""
    job, outcome = snapshot.job, snapshot.outcome
    strength = outcome.recommended_strength if outcome and outcome.status == "done" else 1.0
    return {
        **train.buttons(page, job, snapshot.pictures, snapshot.busy),
        "status": progress.status(page, job, follower, outcome, snapshot.notes.get(job.spec.id, ()) if job else ()),
        "loss": progress.loss(page, follower, outcome),
        "samples": progress.samples(page, snapshot.paths, follower),
        "log": progress.log(page, snapshot.paths),
        "jobs": progress.jobs(page, snapshot.jobs, snapshot.more, job.spec.id if job else "", snapshot.notes),
        "checkpoint": gr.update(choices=verdict.choices(page, follower, outcome)),
        "strength": gr.update(value=round(strength * 20) / 20),  # the slider's own steps
        "verdict": verdict.view(page, job, follower, outcome, snapshot.choice),
        "draw": gr.update(interactive=bool(follower.saved)),
    }


def initialise(page: Page, job_id: Any, initialised_for: str) -> list[Any]:
    """Another job is shown: a prompt to begin with, its samples' numbers, and no picture of the one before. See `Preview.initial`."""
    if job_id == initialised_for:
        return [gr.skip()] * 4 + [initialised_for]
    snapshot = look(page, job_id, False, "")
    if snapshot.job is None or snapshot.paths is None:
        nothing = empty(page.say(words.TRY_EMPTY), page.say(words.TRY_EMPTY_HINT))
        return [gr.skip(), nothing, gr.skip(), gr.skip(), ""]
    sample = snapshot.job.spec.settings.sample
    return [
        _first_prompt(snapshot.job, snapshot.paths),
        empty(page.say(words.DRAW_FIRST), page.say(words.DRAW_FIRST_HINT)),
        sample.steps,
        sample.guidance,
        snapshot.job.spec.id,
    ]


def _first_prompt(job: runner.Job, paths: JobPaths) -> str:
    """The first caption as it is trained, else the trigger word alone."""
    try:
        return job.spec.caption(data.open_dataset(paths.dataset).items[0])
    except BadInput:
        return job.spec.settings.data.trigger.strip()


def current_job(page: Page, remembered: Any) -> str:
    """What a page shows when it is opened, in any browser: the job that runs, else the one it showed, else the last one."""
    jobs = train.own_jobs(page)
    running = [j.spec.id for j in jobs if j.status in ("running", "stopping")]
    known = [j.spec.id for j in jobs if j.spec.id == remembered]
    return next(iter([*running, *known, *(j.spec.id for j in jobs)]), "")


def settings_of(page: Page, job_id: str) -> dict[str, Any]:
    """What a job was started with, as a browser that has seen nothing yet would remember its own form."""
    spec = next((job.spec for job in train.own_jobs(page) if job.spec.id == job_id), None)
    return {"preset": spec.preset, "values": config.values_of(spec.settings)} if spec else {}


def _nowhere(page: Page) -> JobPaths:
    return JobPaths(page.workspace.jobs / "none")
