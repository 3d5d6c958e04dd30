"""Step 3, Train: start, stop, resume, choose a job. What changes by itself is drawn by `live`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.blocks import Block
from markupsafe import Markup

from sdlora.core.errors import BadInput
from sdlora.core.events import Follower
from sdlora.core.text import Text
from sdlora.jobs import runner, store
from sdlora.jobs.ownership import may_see
from sdlora.jobs.paths import checked_id
from sdlora.jobs.spec import JobSpec
from sdlora.library import catalog
from sdlora.web import theme
from sdlora.web.context import STORAGE_KEY, Page
from sdlora.web.form import Values
from sdlora.web.handlers import event
from sdlora.web.screens.pictures import EDITS, Pictures
from sdlora.web.screens.pictures import find as find_dataset
from sdlora.web.screens.settings import Settings, parse
from sdlora.web.strings import words
from sdlora.web.views import progress


@dataclass(frozen=True)
class Training:
    job: gr.BrowserState  # id of the job that steps 3 and 4 show
    start: gr.Button
    stop: gr.Button
    resume: gr.Button
    more: gr.Button
    hint: gr.HTML
    status: gr.HTML
    loss: gr.HTML
    samples: gr.HTML
    log: gr.HTML
    jobs: gr.HTML


def build(page: Page, pictures: Pictures, settings: Settings) -> Training:
    job = gr.BrowserState("", storage_key=f"{STORAGE_KEY}-job", secret=STORAGE_KEY)
    nothing = Follower(page.workspace.root)
    with gr.Row(elem_classes="actions"):
        start = gr.Button(page.say(words.START), variant="primary", elem_id="train-start", interactive=False, scale=0)
        stop = gr.Button(page.say(words.STOP), elem_id="train-stop", interactive=False, scale=0)
        resume = gr.Button(page.say(words.RESUME), elem_id="train-resume", visible=False, scale=0)
        more = gr.Button(page.say(words.MORE.fill(steps="…")), elem_id="train-more", visible=False, scale=0)
        hint = gr.HTML(_hint(page, words.NO_PICTURES), elem_id="train-hint")
    status = gr.HTML(progress.status(page, None, nothing, None), elem_id="progress")
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            loss = gr.HTML(progress.loss(page, nothing, None), elem_id="loss-chart")
        with gr.Column(scale=1, min_width=320):
            samples = gr.HTML(progress.samples(page, None, nothing), elem_id="samples")
    with gr.Accordion(page.say(words.LOG), open=False):
        log = gr.HTML(progress.log(page, None), elem_id="log")
    with gr.Accordion(page.say(words.JOBS), open=False):
        jobs = gr.HTML(progress.jobs(page, [], 0, "", {}), elem_id="jobs", js_on_load=theme.ACTIONS)
    screen = Training(job, start, stop, resume, more, hint, status, loss, samples, log, jobs)
    _connect(page, screen, pictures, settings)
    return screen


def _connect(page: Page, screen: Training, pictures: Pictures, settings: Settings) -> None:
    start_inputs: set[Block] = {settings.preset, *settings.form.fields.values(), *pictures.current}
    screen.start.click(
        event(page, start, settings, pictures),
        start_inputs,
        screen.job,
        show_progress="hidden",
        concurrency_id=EDITS,  # after an edit that is still on its way
    )
    screen.stop.click(event(page, stop), screen.job, screen.stop, show_progress="hidden")
    screen.resume.click(event(page, resume), screen.job, screen.resume, show_progress="hidden")
    screen.more.click(event(page, train_more), screen.job, screen.job, show_progress="hidden")
    screen.jobs.select(event(page, choose), None, screen.job, show_progress="hidden")


def start(page: Page, settings: Settings, pictures: Pictures, values: Values) -> str:
    """Create the job from what the page shows and let it run, or wait for its turn."""
    dataset = find_dataset(page, values[pictures.history], values[pictures.remembered])
    preset = str(values[settings.preset])
    wanted = parse(settings.form.read(values))
    file = catalog.resolve_start_from(page.workspace, wanted, page.user)
    spec = store.create(page.workspace, dataset, wanted, preset=preset, owner=page.user.name, start=file)
    runner.start_next(page.workspace, page.site.launcher, page.site.job_list.jobs_now)
    return spec.id


def stop(page: Page, job: Any) -> Any:
    runner.stop(page.workspace.job(find(page, job)))
    return gr.update(interactive=False)


def resume(page: Page, job: Any) -> Any:
    runner.resume(page.workspace.job(find(page, job)))
    runner.start_next(page.workspace, page.site.launcher, page.site.job_list.jobs_now)
    return gr.update(interactive=False)


def train_more(page: Page, job: Any) -> str:
    """Go on from where a finished job ended, as a new job."""
    spec = store.get_spec(page.workspace, find(page, job))
    new = store.extend(page.workspace, spec.id, more_steps(spec), page.user.name)
    runner.start_next(page.workspace, page.site.launcher, page.site.job_list.jobs_now)
    return new.id


def choose(page: Page, given: gr.EventData) -> str:
    return find(page, given.id)


def own_jobs(page: Page) -> list[runner.Job]:
    """Those that this user may see, newest first."""
    return [job for job in page.site.job_list.jobs() if may_see(page.user, job.spec.owner)]


def find(page: Page, id: Any) -> str:
    """The id of a job that exists. Raises BadInput otherwise: the browser sent it."""
    if not isinstance(id, str) or not id:
        raise BadInput(words.NO_JOB)
    spec = store.get_spec(page.workspace, checked_id(id))
    if not may_see(page.user, spec.owner):
        raise BadInput(words.NO_JOB)
    return spec.id


def _hint(page: Page, text: Text) -> Markup:
    return Markup('<p class="hint">{}</p>').format(page.say(text))


def buttons(page: Page, job: runner.Job | None, pictures: bool, busy: bool) -> dict[str, Any]:
    """Start, stop, resume and the line beside them: a button that cannot work is off, and the line says why."""
    state = job.status if job else ""
    resumable = state in ("interrupted", "paused", "stopped", "failed")
    step = page.workspace.job(job.spec.id).saved_step() if job else 0
    at = words.RESUME_AT.fill(step=f"{step:,}") if step else words.RESUME
    more = words.MORE.fill(steps=f"{more_steps(job.spec):,}" if job else "…")
    return {
        "start": gr.update(value=page.say(words.START_QUEUED if busy else words.START), interactive=pictures),
        "stop": gr.update(interactive=state in ("running", "queued")),
        "resume": gr.update(value=page.say(at), visible=resumable, interactive=True),
        "more": gr.update(value=page.say(more), visible=state == "done" and step > 0, interactive=True),
        "hint": _hint(page, words.NO_PICTURES if not pictures else words.WAITS if busy else words.READY),
    }


def more_steps(spec: JobSpec) -> int:
    """Half as long again is enough to see whether longer helps."""
    return max(10, spec.settings.train.steps // 20 * 10)
