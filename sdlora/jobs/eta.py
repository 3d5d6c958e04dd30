"""When queued jobs will start: the work that is ahead of each, at the pace measured on the same base model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from sdlora.core.events import Follower
from sdlora.jobs.runner import Job
from sdlora.jobs.spec import JobSpec

RECENT_STEPS = 50


def seconds_to_start(jobs: Sequence[Job], follow: Callable[[JobSpec], Follower]) -> dict[str, float]:
    """Seconds until each queued job starts, by job id; jobs behind one of unknown duration are left out.

    `jobs` are all jobs, newest first; `follow` returns the events of a running one. Empty while jobs run on a cluster, where
    several run at once and the order of their ends is not known.
    """
    running = [job for job in jobs if job.running]
    if any(job.node for job in running):
        return {}
    starts: dict[str, float] = {}
    followers = {job.spec.id: follow(job.spec) for job in running}
    paces: dict[str, float] = {}  # by base: seconds per unit of `_work_per_step`
    ahead = 0.0
    queued = sorted((j for j in jobs if j.queue_position), key=lambda j: j.queue_position)
    for job in (*running, *queued):
        if job.queue_position:
            starts[job.spec.id] = ahead
        seconds = followers[job.spec.id].seconds_left() if job.running else None
        if seconds is None:
            base = job.spec.base
            pace = paces[base] if base in paces else paces.setdefault(base, _pace(base, jobs, followers))
            if not pace:
                break
            seconds = pace * _work_per_step(job.spec) * (job.spec.settings.train.steps - job.saved)
        ahead += seconds
    return starts


def _pace(base: str, jobs: Sequence[Job], followers: Mapping[str, Follower]) -> float:
    """Seconds per unit of work on this base: of the running job, else of the newest with a measurement, else 0."""
    for job in sorted(jobs, key=lambda j: not j.running):
        if job.spec.base == base:
            step = _recent_step(followers[job.spec.id]) if job.running else _average_step(job)
            if step:
                return step / _work_per_step(job.spec)
    return 0.0


def _recent_step(follower: Follower) -> float:
    """Median seconds of the last steps; 0 before the first."""
    recent = [s.seconds for s in list(follower.steps.values())[-RECENT_STEPS:]]
    return median(recent) if recent else 0.0


def _average_step(job: Job) -> float:
    """Seconds a step of an ended job, its loading, sampling and validation included; 0 where it made none."""
    outcome = job.outcome if job.status in ("done", "stopped") else None
    return outcome.seconds / outcome.step if outcome and outcome.step else 0.0


def _work_per_step(spec: JobSpec) -> float:
    """Proportional to the compute of a step, among jobs on one base that all name a resolution or all take the base's."""
    t = spec.settings.train
    return t.batch_size * t.gradient_accumulation * (t.resolution or 1) ** 2
