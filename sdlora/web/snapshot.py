"""Everything that the live parts of the page are drawn from, read at one moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradio.components import Component

from sdlora.core.events import Follower
from sdlora.jobs import runner
from sdlora.jobs.ownership import may_see
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.spec import Outcome
from sdlora.web.context import Page
from sdlora.web.views import progress, queue_notes


@dataclass(frozen=True)
class Snapshot:
    """The jobs as this user may see them, and the state of the page."""

    jobs: list[runner.Job]  # the newest
    more: int  # older ones
    busy: bool  # whether a new job would wait, for whoever's
    notes: queue_notes.Notes
    job: runner.Job | None  # the one that the page shows
    paths: JobPaths | None  # of that
    outcome: Outcome | None  # of that
    pictures: bool  # whether there is a data set
    choice: Any  # of the checkpoint field


@dataclass(frozen=True)
class LivePart:
    """A component that changes by itself, and the function of its value."""

    component: Component
    draw: Callable[[Page, Snapshot, Follower], Any]


def take(page: Page, job_id: Any, pictures: bool, choice: Any) -> Snapshot:
    every = page.site.job_list.jobs()
    jobs = [job for job in every if may_see(page.user, job.spec.owner)]
    newest = jobs[: progress.MAX_JOBS]
    busy = any(job.status in ("running", "stopping", "queued") for job in every)
    job = next((j for j in jobs if j.spec.id == job_id), None)  # an id from the browser names a job, or nothing
    paths = page.workspace.job(job.spec.id) if job else None
    ended = job is not None and job.status in ("done", "stopped", "failed", "paused")
    outcome = Outcome.read(paths) if paths and ended else None
    notes = queue_notes.queue_notes(page, every, [*newest, job] if job else newest)
    return Snapshot(newest, len(jobs) - len(newest), busy, notes, job, paths, outcome, pictures, choice)
