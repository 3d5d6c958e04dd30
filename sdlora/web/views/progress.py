"""A job: status with progress and explanations, loss chart, log; and the list of all jobs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from markupsafe import Markup

from sdlora.config import presets
from sdlora.core import files
from sdlora.core.events import Follower
from sdlora.core.text import Text
from sdlora.jobs import runner
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.runner import Job
from sdlora.jobs.spec import Outcome
from sdlora.render import loss_chart
from sdlora.web import strings
from sdlora.web.context import Page
from sdlora.web.views import notices, numbers
from sdlora.web.views.queue_notes import Notes
from sdlora.web.views.render import html

LOG_BYTES = 6000
MAX_JOBS = 100  # in the list, newest first
MAX_WARNINGS = 5


def status(
    page: Page, job: Job | None, follower: Follower, outcome: Outcome | None, notes: Sequence[Text] = ()
) -> Markup:
    if job is None:
        return notices.empty(page, strings.train.TRAIN_EMPTY, strings.train.TRAIN_EMPTY_HINT)
    steps = follower.started.steps if follower.started else job.spec.settings.train.steps
    return html(
        "status",
        page.language,
        job=job,
        is_waiting=job.status == "running" and not follower.steps,
        step=follower.step,
        steps=steps,
        percent=f"{100 * follower.step / max(steps, 1):.2f}",
        facts=[page.say(text) for text in (*_facts(job, follower, steps), *_node(job))],
        estimate=follower.estimate if job.status in ("running", "stopping") else None,
        explanations=[*notes, *_explanations(page, job, outcome)],
        warnings=follower.warnings[-MAX_WARNINGS:],
    )


def _facts(job: Job, follower: Follower, steps: int) -> list[Text]:
    alive = job.status in ("running", "stopping")
    is_training = follower.phase is not None and follower.phase.name == "training"
    facts = [_phase(follower)] if alive and not is_training else []
    facts.append(strings.train.STEP_OF.fill(step=f"{follower.step:,}", steps=f"{steps:,}"))
    left = follower.seconds_left()
    if alive and left is not None and follower.step < steps:
        facts += [numbers.time_left(left), _speed(left / (steps - follower.step))]
    if started := follower.started:
        facts.append(strings.train.RUNS_ON.fill(device=started.device, precision=started.precision))
    return facts


def _node(job: Job) -> list[Text]:
    """The node of the cluster that a job runs or ran on."""
    return [strings.train.ON_NODE.fill(node=job.node)] if job.node else []


def _phase(follower: Follower) -> Text:
    phase = follower.phase
    if phase is None:
        return strings.train.STARTING
    text = strings.train.PHASE.get(phase.name, strings.train.STARTING)
    return (
        Text("{phase} {of}", "{phase} {of}").fill(phase=text, of=f"{phase.done}/{phase.total}") if phase.total else text
    )


def _speed(seconds: float) -> Text:
    """Of a step that takes so long."""
    if seconds > 2:
        return strings.train.SLOW.fill(seconds=f"{seconds:.1f}")
    return strings.train.SPEED.fill(speed=f"{1 / max(seconds, 1e-6):.1f}")


def _explanations(page: Page, job: Job, outcome: Outcome | None) -> list[Text]:
    """Why the job is in this state, and what to do."""
    own = strings.train
    if job.status == "interrupted":
        paths = page.workspace.job(job.spec.id)
        step = paths.saved_step()
        saved = own.SAVED_UP_TO.fill(step=f"{step:,}") if step else own.NOTHING_SAVED
        retries = runner.attempts_without_progress(paths) < runner.MAX_ATTEMPTS
        return [own.INTERRUPTED_HINT, saved, own.RETRIES if retries else own.RETRIES_NO_MORE]
    if outcome is None:
        return []
    if outcome.status == "failed":
        return [outcome.reason, own.FAILED_HINT]
    if outcome.status == "paused":
        return [outcome.reason, own.PAUSED_HINT]
    if outcome.status == "stopped":
        return [own.STOPPED_HINT]
    return [own.TOOK.fill(time=numbers.duration(outcome.seconds))]


def loss(page: Page, follower: Follower, outcome: Outcome | None) -> Markup:
    """The chart is SVG of numbers and our own strings: safe as it is."""
    chart = loss_chart.loss_chart(follower, best_step(follower, outcome), page.language, inside=True)
    return html("loss", page.language, chart=Markup(chart))


def best_step(follower: Follower, outcome: Outcome | None) -> int:
    """The outcome's choice; before there is one, the lowest held-out loss so far, else the last checkpoint. 0 without any."""
    if outcome and outcome.best_step:
        return outcome.best_step
    judged = {step: j.held_out_loss for step, j in follower.judged.items() if step in follower.saved}
    return min(judged, key=lambda step: judged[step]) if judged else max(follower.saved, default=0)


def log(page: Page, paths: JobPaths | None) -> Markup:
    return html("log", page.language, text=files.tail(paths.log, LOG_BYTES) if paths else "")


def jobs(page: Page, newest: Sequence[Job], more: int, current: str, notes: Notes) -> Markup:
    """`more`: how many older ones are left out."""
    titles = {preset.name: preset.title for preset in presets().values()}
    rows = [
        {
            "job": job,
            "facts": _job_facts(page, job, titles.get(job.spec.preset), notes.get(job.spec.id, ())),
            "is_current": job.spec.id == current,
        }
        for job in newest
    ]
    return html("jobs", page.language, rows=rows, more=more)


def _job_facts(page: Page, job: Job, preset: Text | None, notes: Sequence[Text]) -> list[str]:
    settings = job.spec.settings
    about = strings.train.ABOUT_JOB.fill(rank=settings.lora.rank, steps=f"{settings.train.steps:,}")
    texts = [*([preset] if preset else []), about, *_node(job), *notes]
    return [time.strftime("%Y-%m-%d %H:%M", time.localtime(job.spec.created)), *map(page.say, texts)]
