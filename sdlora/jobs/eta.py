"""When a queued job is likely to start: what those before it still have to do, at the pace that was seen on their base."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from sdlora.core.events import Follower
from sdlora.jobs.runner import Job
from sdlora.jobs.spec import JobSpec

Follow = Callable[[JobSpec], Follower]


def seconds_to_start(jobs: Sequence[Job], follow: Follow) -> dict[str, float]:
    """Seconds until each queued job starts. Who waits behind a job of unknown length is left out.

    `jobs` are all, newest first; `follow` gives what a running one has told.
    """
    found: dict[str, float] = {}
    ahead = 0.0
    running = [job for job in jobs if job.running]
    if any(job.node for job in running):
        return found  # several run at once, and which ends first is for the cluster to say
    told = {job.spec.id: follow(job.spec) for job in running}
    paces: dict[str, float] = {}  # by base: seconds for what `_work` counts
    for job in (*running, *sorted((j for j in jobs if j.queue_position), key=lambda j: j.queue_position)):
        if job.queue_position:
            found[job.spec.id] = ahead
        left = told[job.spec.id].seconds_left() if job.running else None
        if left is None:
            base = job.spec.base
            pace = paces[base] if base in paces else paces.setdefault(base, _pace(base, jobs, told))
            if not pace:
                break
            left = pace * _work(job.spec) * (job.spec.settings.train.steps - job.saved)
        ahead += left
    return found


def _pace(base: str, jobs: Sequence[Job], told: Mapping[str, Follower]) -> float:
    """As seen on this base: by the running job, else by the newest that shows it. 0 where none does."""
    for job in sorted(jobs, key=lambda j: not j.running):
        if job.spec.base == base:
            seconds = _told(told[job.spec.id]) if job.running else _took(job)
            if seconds:
                return seconds / _work(job.spec)
    return 0.0


def _told(told: Follower) -> float:
    recent = [s.seconds for s in list(told.steps.values())[-50:]]
    return median(recent) if recent else 0.0


def _took(job: Job) -> float:
    """With all that is not a step: loading, samples, judging."""
    known = job.outcome if job.status in ("done", "stopped") else None
    return known.seconds / known.step if known and known.step else 0.0


def _work(spec: JobSpec) -> float:
    """How much a step computes, up to a factor that jobs on one base share where both take its resolution."""
    t = spec.settings.train
    return t.batch_size * t.gradient_accumulation * (t.resolution or 1) ** 2
