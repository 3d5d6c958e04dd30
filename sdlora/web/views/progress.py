"""A job as the page shows it: status, bar, loss chart, samples, log, the list of all jobs. Only HTML is made here."""

from __future__ import annotations

import time
from collections.abc import Sequence

from markupsafe import Markup

from sdlora.config import Preset, presets
from sdlora.core import files
from sdlora.core.events import Follower, Sampled
from sdlora.core.text import Text
from sdlora.jobs import runner
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.runner import Job
from sdlora.jobs.spec import Outcome
from sdlora.render import loss_chart
from sdlora.web.context import Page
from sdlora.web.strings import words
from sdlora.web.views import numbers
from sdlora.web.views.gallery import empty
from sdlora.web.views.queue_notes import Notes

SHOWN_STEPS = 8  # rows of samples a prompt, newest first
LOG_BYTES = 6000
SHOWN_JOBS = 100  # newest first


def status(
    page: Page, job: Job | None, follower: Follower, outcome: Outcome | None, notes: Sequence[Text] = ()
) -> Markup:
    if job is None:
        return empty(page.say(words.TRAIN_EMPTY), page.say(words.TRAIN_EMPTY_HINT))
    state = page.say(words.STATUS[job.status].fill(place=job.queue_position))
    parts = [
        Markup('<div class="job-head"><strong>{}</strong><em class="{}">{}</em></div>').format(
            job.spec.name, job.status, state
        )
    ]
    if job.status != "queued":
        parts.append(_bar(page, job, follower))
    if follower.estimate and job.status in ("running", "stopping"):
        parts.append(Markup('<p class="facts foreseen">{}</p>').format(page.say(follower.estimate.text)))
    parts += [
        Markup('<p class="explained">{}</p>').format(text)
        for text in (*map(page.say, notes), *_explained(page, job, outcome))
    ]
    parts += [Markup('<p class="warned">{}</p>').format(page.say(warning.text)) for warning in follower.warnings[-5:]]
    return Markup("").join(parts)


def _bar(page: Page, job: Job, follower: Follower) -> Markup:
    steps = follower.started.steps if follower.started else job.spec.settings.train.steps
    share = 100 * follower.step / max(steps, 1)
    facts = " · ".join([*(page.say(text) for text in _facts(job, follower, steps)), *_node(page, job)])
    waiting = " waiting" if job.status == "running" and not follower.steps else ""
    return Markup(
        '<div class="bar{}" role="progressbar" aria-valuemin="0" aria-valuemax="{}" aria-valuenow="{}">'
        '<i style="width:{:.2f}%"></i></div><p class="facts">{}</p>'
    ).format(waiting, steps, follower.step, share, facts)


def _facts(job: Job, follower: Follower, steps: int) -> list[Text]:
    alive = job.status in ("running", "stopping")
    facts = [_phase(follower)] if alive and not _training(follower) else []
    facts.append(words.STEP_OF.fill(step=f"{follower.step:,}", steps=f"{steps:,}"))
    left = follower.seconds_left()
    if alive and left is not None and follower.step < steps:
        facts.append(numbers.left(left))
        per_step = left / (steps - follower.step)
        facts.append(_speed(per_step))
    if follower.started:
        facts.append(words.RUNS_ON.fill(device=follower.started.device, precision=follower.started.precision))
    return facts


def _node(page: Page, job: Job) -> list[str]:
    """Where it runs or ran, if not here."""
    return [page.say(words.ON_NODE.fill(node=job.node))] if job.node else []


def _training(follower: Follower) -> bool:
    """Whether steps are what happens now."""
    return follower.phase is not None and follower.phase.name == "training"


def _phase(follower: Follower) -> Text:
    phase = follower.phase
    if phase is None:
        return words.STARTING
    text = words.PHASE.get(phase.name, words.STARTING)
    return (
        Text(f"{text.en} {phase.done}/{phase.total}", f"{text.ja} {phase.done}/{phase.total}") if phase.total else text
    )


def _speed(seconds: float) -> Text:
    if seconds > 2:
        return words.SLOW.fill(seconds=f"{seconds:.1f}")
    return words.SPEED.fill(speed=f"{1 / max(seconds, 1e-6):.1f}")


def _explained(page: Page, job: Job, outcome: Outcome | None) -> list[str]:
    """Why it stands where it stands, and what to do."""
    if job.status == "interrupted":
        paths = page.workspace.job(job.spec.id)
        step = paths.saved_step()
        return [
            page.say(words.INTERRUPTED_HINT),
            page.say(words.SAVED_UP_TO.fill(step=f"{step:,}") if step else words.NOTHING_SAVED),
            page.say(
                words.RETRIES
                if runner.attempts_without_progress(paths) < runner.MAX_ATTEMPTS
                else words.RETRIES_NO_MORE
            ),
        ]
    if outcome is None:
        return []
    if outcome.status in ("failed", "paused"):
        return [
            page.say(outcome.reason),
            page.say(words.FAILED_HINT if outcome.status == "failed" else words.PAUSED_HINT),
        ]
    if outcome.status == "stopped":
        return [page.say(words.STOPPED_HINT)]
    time = numbers.duration(outcome.seconds)
    return [page.say(Text(words.TOOK.en.format(time=time.en), words.TOOK.ja.format(time=time.ja)))]


def loss(page: Page, follower: Follower, outcome: Outcome | None) -> Markup:
    """The chart is made of numbers and our own words, so it is safe as it is."""
    drawn = loss_chart.loss_chart(follower, best_step(follower, outcome), page.language, inside=True)
    help = Markup('<p class="hint">{}</p>').format(page.say(words.LOSS_HELP if drawn else words.LOSS_EMPTY))
    return Markup("<h3>{}</h3>{}{}").format(page.say(words.LOSS), Markup(drawn), help)


def best_step(follower: Follower, outcome: Outcome | None) -> int:
    """The outcome's choice; before it is there, the lowest held-out loss so far, else the last checkpoint. 0 without any."""
    if outcome and outcome.best_step:
        return outcome.best_step
    judged = {step: j.held_out_loss for step, j in follower.judged.items() if step in follower.saved}
    return min(judged, key=lambda step: judged[step]) if judged else max(follower.saved, default=0)


def samples(page: Page, paths: JobPaths | None, follower: Follower) -> Markup:
    head = Markup("<h3>{}</h3>").format(page.say(words.SAMPLES))
    if paths is None or not follower.samples:
        return Markup('{}<p class="hint">{}</p>').format(head, page.say(words.SAMPLES_EMPTY))
    prompts = list(dict.fromkeys(prompt for _, prompt, _ in follower.samples))
    groups = Markup("").join(_group(page, paths, follower, prompt) for prompt in prompts)
    return Markup('{}<p class="hint">{}</p>{}').format(head, page.say(words.SAMPLES_HELP), groups)


def _group(page: Page, paths: JobPaths, follower: Follower, prompt: str) -> Markup:
    """One prompt: the newest step open, the earlier ones in a fold."""
    found = [s for s in follower.samples.values() if s.prompt == prompt]
    steps = sorted({s.step for s in found if s.strength > 0} or {s.step for s in found}, reverse=True)
    rows = [_strip(page, paths, found, step) for step in steps[:SHOWN_STEPS]]
    earlier = Markup("").join(rows[1:])
    fold = Markup("<details><summary>{}</summary>{}</details>").format(page.say(words.EARLIER_STEPS), earlier)
    return Markup('<figure class="samples"><figcaption>{}</figcaption>{}{}</figure>').format(
        prompt, rows[0], fold if earlier else ""
    )


def _strip(page: Page, paths: JobPaths, found: Sequence[Sampled], step: int) -> Markup:
    """Strengths side by side. The base alone never changes: its picture of any step serves all."""
    base = [s for s in found if s.strength == 0][:1]
    own = [s for s in found if s.step == step and s.strength > 0]
    pictures = Markup("").join(_sample(page, paths, s) for s in (*base, *sorted(own, key=lambda s: s.strength)))
    return Markup('<div class="strip"><span>{}</span>{}</div>').format(
        page.say(words.AT_STEP, step=f"{step:,}"), pictures
    )


def _sample(page: Page, paths: JobPaths, sample: Sampled) -> Markup:
    strength = f"{sample.strength:g}"
    label = page.say(words.BASE_ALONE) if sample.strength == 0 else page.say(words.STRENGTH_IS, strength=strength)
    return Markup('<div><img src="{}" alt="{}" loading="lazy"><small>{}</small></div>').format(
        page.site.media.picture(paths.folder / sample.file),
        page.say(words.SAMPLE_ALT.fill(step=sample.step, strength=strength, prompt=sample.prompt)),
        label,
    )


def log(page: Page, paths: JobPaths | None) -> Markup:
    text = files.tail(paths.log, LOG_BYTES) if paths else ""
    if not text.strip():
        return Markup('<p class="hint">{}</p>').format(page.say(words.LOG_EMPTY))
    return Markup('<pre class="log" tabindex="0">{}</pre>').format(text)


def jobs(page: Page, newest: Sequence[Job], more: int, current: str, notes: Notes) -> Markup:
    if not newest:
        return Markup('<p class="hint">{}</p>').format(page.say(words.JOBS_NONE))
    known = presets()
    rows = Markup("").join(
        _row(page, job, known.get(job.spec.preset), job.spec.id == current, notes.get(job.spec.id, ()))
        for job in newest
    )
    rest = Markup('<p class="hint">{}</p>').format(page.say(words.JOBS_MORE, count=f"{more:,}")) if more else ""
    return Markup('<ul class="rows">{}</ul>{}').format(rows, rest)


def _row(page: Page, job: Job, preset: Preset | None, current: bool, notes: Sequence[Text]) -> Markup:
    settings = job.spec.settings
    about = words.ABOUT_JOB.fill(rank=settings.lora.rank, steps=f"{settings.train.steps:,}")
    parts = [
        time.strftime("%Y-%m-%d %H:%M", time.localtime(job.spec.created)),
        *([page.say(preset.title)] if preset else []),
    ]
    button = Markup('<button type="button" data-do="open" data-id="{}">{}</button>').format(
        job.spec.id, page.say(words.SHOW)
    )
    return Markup('<li><div><b>{}</b><span>{}</span></div><em class="{}">{}</em>{}</li>').format(
        job.spec.name,
        " · ".join((*parts, page.say(about), *_node(page, job), *map(page.say, notes))),
        job.status,
        page.say(words.STATUS[job.status].fill(place=job.queue_position)),
        Markup("<em>{}</em>").format(page.say(words.SHOWN)) if current else button,
    )
