"""What a job's place among the others means, in words: when it is likely to start, and what it continues."""

from __future__ import annotations

from collections.abc import Sequence

from sdlora.core.text import Text
from sdlora.jobs import eta, runner
from sdlora.web.context import Page
from sdlora.web.strings import words
from sdlora.web.views import numbers

Notes = dict[str, tuple[Text, ...]]  # by the job's id


def queue_notes(page: Page, jobs: Sequence[runner.Job], shown: Sequence[runner.Job]) -> Notes:
    """Of the jobs that are shown among all."""
    names = {job.spec.id: job.spec.name for job in jobs}
    starts = {} if any(job.gpu_lost for job in jobs) else eta.seconds_to_start(jobs, lambda spec: _told(page, spec.id))
    found: Notes = {}
    for job in shown:
        said = [_lineage(job, names)] if job.spec.parent else []
        if job.spec.id in starts:
            said.append(_start(starts[job.spec.id]))
        if said:
            found[job.spec.id] = tuple(said)
    return found


def _told(page: Page, id: str) -> eta.Follower:
    with page.site.events.follow(page.workspace.job(id)) as follower:
        return follower


def _lineage(job: runner.Job, names: dict[str, str]) -> Text:
    step = f"{job.spec.parent_step:,}"
    name = names.get(job.spec.parent)
    return words.CONTINUES.fill(name=name, step=step) if name else words.CONTINUES_DELETED.fill(step=step)


def _start(seconds: float) -> Text:
    if seconds < 10:
        return words.STARTS_NEXT
    time = numbers.duration(seconds)
    return Text(words.STARTS_IN.en.format(time=time.en), words.STARTS_IN.ja.format(time=time.ja))
