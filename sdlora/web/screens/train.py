"""Screen 3, Train: start, stop, resume, choose a job; what changes by itself are its `live_parts`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.blocks import Block

from sdlora import config
from sdlora.core.errors import BadInput
from sdlora.core.events import Follower
from sdlora.jobs import runner, store
from sdlora.jobs.ownership import may_see
from sdlora.jobs.paths import checked_id
from sdlora.jobs.spec import JobSpec
from sdlora.library import catalog
from sdlora.web import strings, theme
from sdlora.web.context import STORAGE_KEY, Page
from sdlora.web.form import Values
from sdlora.web.handlers import event
from sdlora.web.screens.pictures import EDITS, Pictures
from sdlora.web.screens.pictures import find as find_dataset
from sdlora.web.screens.screen import Built
from sdlora.web.screens.settings import Settings, parse
from sdlora.web.snapshot import LivePart, Snapshot
from sdlora.web.views import notices, progress
from sdlora.web.views.samples import samples as samples_view


@dataclass(frozen=True)
class Train:
    job: gr.BrowserState  # id of the job that this screen and the next show
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


def build(page: Page, built: Built) -> Train:
    pictures, settings = built[Pictures], built[Settings]
    job = gr.BrowserState("", storage_key=f"{STORAGE_KEY}-job", secret=STORAGE_KEY)
    nothing = Follower(page.workspace.root)
    with gr.Row(elem_classes="actions"):
        start = gr.Button(
            page.say(strings.train.START), variant="primary", elem_id="train-start", interactive=False, scale=0
        )
        stop = gr.Button(page.say(strings.train.STOP), elem_id="train-stop", interactive=False, scale=0)
        resume = gr.Button(page.say(strings.train.RESUME), elem_id="train-resume", visible=False, scale=0)
        more = gr.Button(page.say(strings.train.MORE.fill(steps="…")), elem_id="train-more", visible=False, scale=0)
        hint = gr.HTML(notices.hint(page, strings.pictures.NO_PICTURES), elem_id="train-hint")
    status = gr.HTML(progress.status(page, None, nothing, None), elem_id="progress")
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            loss = gr.HTML(progress.loss(page, nothing, None), elem_id="loss-chart")
        with gr.Column(scale=1, min_width=320):
            samples = gr.HTML(samples_view(page, None, nothing), elem_id="samples")
    with gr.Accordion(page.say(strings.train.LOG), open=False):
        log = gr.HTML(progress.log(page, None), elem_id="log")
    with gr.Accordion(page.say(strings.train.JOBS), open=False):
        jobs = gr.HTML(progress.jobs(page, [], 0, "", {}), elem_id="jobs", js_on_load=theme.actions("show_job"))
    screen = Train(job, start, stop, resume, more, hint, status, loss, samples, log, jobs)
    _connect(page, screen, pictures, settings)
    return screen


def _connect(page: Page, screen: Train, pictures: Pictures, settings: Settings) -> None:
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
    screen.jobs.show_job(event(page, show_job), None, screen.job, show_progress="hidden")


def start(page: Page, settings: Settings, pictures: Pictures, values: Values) -> str:
    """Create the job from what the page shows and let it run, or wait for its turn."""
    dataset = find_dataset(page, values[pictures.history], values[pictures.dataset_id])
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


def show_job(page: Page, action: gr.EventData) -> str:
    return find(page, action.id)


def own_jobs(page: Page) -> list[runner.Job]:
    """Jobs that this user may see, newest first."""
    return [job for job in page.site.job_list.jobs() if may_see(page.user, job.spec.owner)]


def find(page: Page, id: Any) -> str:
    """The id of a job that exists. Raises BadInput otherwise: the browser sent it."""
    if not isinstance(id, str) or not id:
        raise BadInput(strings.train.NO_JOB)
    spec = store.get_spec(page.workspace, checked_id(id))
    if not may_see(page.user, spec.owner):
        raise BadInput(strings.train.NO_JOB)
    return spec.id


def current_job(page: Page, job_id: Any) -> str:
    """The job that a page just opened shows: one that runs, else the one it showed before, else the last one."""
    jobs = own_jobs(page)
    running = [j.spec.id for j in jobs if j.status in ("running", "stopping")]
    previous = [j.spec.id for j in jobs if j.spec.id == job_id]
    return next(iter([*running, *previous, *(j.spec.id for j in jobs)]), "")


def settings_of(page: Page, job_id: str) -> dict[str, Any]:
    """What a job was started with, in the shape of `Settings.draft`: for a browser that has none of its own."""
    spec = next((job.spec for job in own_jobs(page) if job.spec.id == job_id), None)
    return {"preset": spec.preset, "values": config.values_of(spec.settings)} if spec else {}


def live_parts(screen: Train) -> dict[str, LivePart]:
    """A button that cannot work is off, and the hint beside it says why."""
    return {
        "start": LivePart(screen.start, _start_button),
        "stop": LivePart(screen.stop, _stop_button),
        "resume": LivePart(screen.resume, _resume_button),
        "more": LivePart(screen.more, _more_button),
        "hint": LivePart(screen.hint, _hint),
        "status": LivePart(screen.status, _status),
        "loss": LivePart(screen.loss, lambda page, now, follower: progress.loss(page, follower, now.outcome)),
        "samples": LivePart(screen.samples, lambda page, now, follower: samples_view(page, now.paths, follower)),
        "log": LivePart(screen.log, lambda page, now, follower: progress.log(page, now.paths)),
        "jobs": LivePart(screen.jobs, _jobs),
    }


def _start_button(page: Page, now: Snapshot, follower: Follower) -> Any:
    text = strings.train.START_QUEUED if now.busy else strings.train.START
    return gr.update(value=page.say(text), interactive=now.pictures)


def _stop_button(page: Page, now: Snapshot, follower: Follower) -> Any:
    return gr.update(interactive=now.job is not None and now.job.status in ("running", "queued"))


def _resume_button(page: Page, now: Snapshot, follower: Follower) -> Any:
    can_resume = now.job is not None and now.job.status in ("interrupted", "paused", "stopped", "failed")
    step = now.paths.saved_step() if now.paths else 0
    text = strings.train.RESUME_AT.fill(step=f"{step:,}") if step else strings.train.RESUME
    return gr.update(value=page.say(text), visible=can_resume, interactive=True)


def _more_button(page: Page, now: Snapshot, follower: Follower) -> Any:
    can_go_on = (
        now.job is not None and now.job.status == "done" and now.paths is not None and now.paths.saved_step() > 0
    )
    steps = f"{more_steps(now.job.spec):,}" if now.job else "…"
    return gr.update(value=page.say(strings.train.MORE, steps=steps), visible=can_go_on, interactive=True)


def _hint(page: Page, now: Snapshot, follower: Follower) -> Any:
    own = strings.train
    return notices.hint(
        page, strings.pictures.NO_PICTURES if not now.pictures else own.WAITS if now.busy else own.READY
    )


def _status(page: Page, now: Snapshot, follower: Follower) -> Any:
    notes = now.notes.get(now.job.spec.id, ()) if now.job else ()
    return progress.status(page, now.job, follower, now.outcome, notes)


def _jobs(page: Page, now: Snapshot, follower: Follower) -> Any:
    return progress.jobs(page, now.jobs, now.more, now.job.spec.id if now.job else "", now.notes)


def more_steps(spec: JobSpec) -> int:
    """Half as many again, in tens: enough to see whether longer helps."""
    return max(10, spec.settings.train.steps // 20 * 10)
