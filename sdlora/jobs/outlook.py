"""When a queued job is likely to start: what those before it still have to do, at the pace that was seen on their base."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from sdlora.events import Follower
from sdlora.jobs.paths import Workspace
from sdlora.jobs.runner import Job, node
from sdlora.jobs.spec import JobSpec, Outcome

Follow = Callable[[JobSpec], Follower]


def starts(workspace: Workspace, jobs: Sequence[Job], follow: Follow) -> dict[str, float]:
    """Seconds until each queued job starts. Who waits behind a job of unknown length is left out.

    `jobs` are all, newest first; `follow` gives what a running one has told.
    """
    found: dict[str, float] = {}
    ahead = 0.0
    running = [job for job in jobs if job.status in ("running", "stopping")]
    if any(node(workspace.job(job.spec.id)) for job in running):
        return found  # several run at once, and which ends first is for the cluster to say
    for job in (*running, *sorted((j for j in jobs if j.place), key=lambda j: j.place)):
        if job.place:
            found[job.spec.id] = ahead
        told = follow(job.spec) if job in running else None
        left = told.seconds_left() if told else None
        if left is None:
            pace = next(iter(_paces(workspace, jobs, running, follow, job.spec)), None)
            if pace is None:
                break
            left = pace * (job.spec.settings.train.steps - workspace.job(job.spec.id).saved_step())
        ahead += left
    return found


def _paces(
    workspace: Workspace, jobs: Sequence[Job], running: Sequence[Job], follow: Follow, wanted: JobSpec
) -> Iterable[float]:
    """Seconds a step of `wanted`, by each job on the same base that shows it: the running one first, then the newest."""
    for job in (*running, *(j for j in jobs if j.status in ("done", "stopped"))):
        if job.spec.base == wanted.base:
            seconds = _told(follow(job.spec)) if job in running else _took(Outcome.read(workspace.job(job.spec.id)))
            if seconds:
                yield seconds * _work(wanted) / _work(job.spec)


def _told(told: Follower) -> float:
    recent = [s.seconds for s in list(told.steps.values())[-50:]]
    return median(recent) if recent else 0.0


def _took(outcome: Outcome | None) -> float:
    """With all that is not a step: loading, samples, judging."""
    return outcome.seconds / outcome.step if outcome and outcome.step else 0.0


def _work(spec: JobSpec) -> float:
    """How much a step computes, up to a factor that jobs on one base share where both take its resolution."""
    t = spec.settings.train
    return t.batch_size * t.gradient_accumulation * (t.resolution or 1) ** 2
