"""What a job's place among the others means: when it is likely to start, and which job it continues."""

from __future__ import annotations

from collections.abc import Sequence

from sdlora.core.events import Follower
from sdlora.core.text import Text
from sdlora.jobs import eta, runner
from sdlora.jobs.spec import JobSpec
from sdlora.web import strings
from sdlora.web.context import Page
from sdlora.web.views import numbers

Notes = dict[str, tuple[Text, ...]]  # by the job's id


def queue_notes(page: Page, jobs: Sequence[runner.Job], visible: Sequence[runner.Job]) -> Notes:
    """Of the `visible` ones among all jobs."""

    def follower(spec: JobSpec) -> Follower:
        with page.site.events.follow(page.workspace.job(spec.id)) as found:
            return found

    names = {job.spec.id: job.spec.name for job in jobs}
    starts = {} if any(job.gpu_lost for job in jobs) else eta.seconds_to_start(jobs, follower)
    notes: Notes = {}
    for job in visible:
        lineage = [_lineage(job, names)] if job.spec.parent else []
        start = [_start(starts[job.spec.id])] if job.spec.id in starts else []
        if lineage or start:
            notes[job.spec.id] = (*lineage, *start)
    return notes


def _lineage(job: runner.Job, names: dict[str, str]) -> Text:
    step = f"{job.spec.parent_step:,}"
    name = names.get(job.spec.parent)
    return (
        strings.train.CONTINUES.fill(name=name, step=step) if name else strings.train.CONTINUES_DELETED.fill(step=step)
    )


def _start(seconds: float) -> Text:
    if seconds < 10:
        return strings.train.STARTS_NEXT
    return strings.train.STARTS_IN.fill(time=numbers.duration(seconds))
