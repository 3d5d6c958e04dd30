"""Screen 4, Try it: base and LoRA side by side from the same seed, with a slider for the strength."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from markupsafe import Markup

from sdlora import config, data
from sdlora.core.errors import BadInput
from sdlora.core.events import Follower
from sdlora.jobs import runner, store
from sdlora.jobs.paths import JobPaths
from sdlora.processes.protocol import PreviewRequest
from sdlora.web import snapshot, strings
from sdlora.web.context import Page
from sdlora.web.drawing_inputs import MAX_STRENGTH, MIN_STRENGTH, checked_numbers, checked_prompt, checked_strength
from sdlora.web.form import Values
from sdlora.web.handlers import event
from sdlora.web.screens.screen import Built
from sdlora.web.screens.train import Train, find
from sdlora.web.snapshot import LivePart, Snapshot
from sdlora.web.views import notices, verdict
from sdlora.web.views.picture_pair import draw_pair


@dataclass(frozen=True)
class Preview:
    """`numbers` are the fields of seed, steps and guidance by the setting that says what they may be."""

    prompt: gr.Textbox
    negative: gr.Textbox
    numbers: dict[str, gr.Number]
    strength: gr.Slider
    checkpoint: gr.Dropdown
    button: gr.Button
    picture: gr.HTML
    verdict: gr.HTML
    initialised_for: gr.State  # id of the job that prompt and picture belong to

    @property
    def initial(self) -> list[Component]:
        """Components that `initialise` sets when another job is shown."""
        return [
            self.prompt,
            self.picture,
            self.numbers["sample.steps"],
            self.numbers["sample.guidance"],
            self.initialised_for,
        ]

    @property
    def inputs(self) -> set[Component]:
        return {self.prompt, self.negative, *self.numbers.values(), self.strength, self.checkpoint}


def build(page: Page, built: Built) -> Preview:
    nothing = Follower(page.workspace.root)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            prompt = gr.Textbox(
                label=page.say(strings.preview.PROMPT),
                info=page.say(strings.preview.PROMPT_HELP),
                lines=2,
                elem_id="preview-prompt",
            )
            strength = gr.Slider(
                MIN_STRENGTH,
                MAX_STRENGTH,
                1.0,
                step=0.05,
                label=page.say(strings.preview.STRENGTH),
                info=page.say(strings.preview.STRENGTH_HELP),
                elem_id="strength",
                buttons=[],
            )
            checkpoint = gr.Dropdown(
                verdict.choices(page, nothing, None),
                value=verdict.RECOMMENDED,
                label=page.say(strings.preview.CHECKPOINT),
                elem_id="checkpoint",
                allow_custom_value=True,
            )
            with gr.Row(elem_classes="seed"):
                seed = number_field(page, "train.seed", "preview-seed")
                dice = gr.Button(page.say(strings.preview.DICE), elem_id="dice", min_width=120)
            with gr.Accordion(page.say(strings.preview.DRAWING_OPTIONS), open=False):
                negative = gr.Textbox(label=page.say(strings.preview.NEGATIVE), elem_id="preview-negative")
                with gr.Row():
                    steps = number_field(page, "sample.steps", "preview-steps")
                    guidance = number_field(page, "sample.guidance", "preview-guidance")
            button = gr.Button(
                page.say(strings.preview.DRAW), variant="primary", elem_id="preview-draw", interactive=False
            )
        with gr.Column(scale=3, min_width=320):
            picture = gr.HTML(_nothing_to_try(page), elem_id="preview-image")
            judged = gr.HTML(verdict.view(page, None, nothing, None), elem_id="verdict")
    fields = {"train.seed": seed, "sample.steps": steps, "sample.guidance": guidance}
    screen = Preview(prompt, negative, fields, strength, checkpoint, button, picture, judged, gr.State(""))
    _connect(page, screen, built[Train].job, dice)
    return screen


def number_field(page: Page, path: str, element: str) -> gr.Number:
    setting = next(s for s in config.settings() if s.path == path)
    step = 1 if setting.kind == "int" else 0.5
    return gr.Number(setting.default, label=page.say(setting.label), step=step, elem_id=element, min_width=120)


def _connect(page: Page, screen: Preview, job: gr.BrowserState, dice: gr.Button) -> None:
    seed = screen.numbers["train.seed"]
    drawing: dict[str, Any] = {
        "fn": event(page, draw, screen, job),
        "inputs": {job, *screen.inputs},
        "outputs": screen.picture,
        "show_progress": "hidden",
        "trigger_mode": "multiple",  # a newer request cancels the older one, see `draw`
        "concurrency_limit": 16,
    }
    gr.on(
        [
            screen.button.click,
            screen.prompt.submit,
            screen.strength.release,
            screen.checkpoint.input,
            *(field.submit for field in screen.numbers.values()),
        ],
        **drawing,
    )
    dice.click(event(page, roll), None, seed, show_progress="hidden").then(**drawing)
    job.change(event(page, initialise), [job, screen.initialised_for], screen.initial, show_progress="hidden")
    screen.prompt.focus(event(page, warm_up), job, None, show_progress="hidden")


def roll(page: Page) -> int:
    return secrets.randbelow(2**31)


def warm_up(page: Page, job: Any) -> None:
    """Load the model while a prompt is being written."""
    if job:
        page.site.previews.warm_up()


def draw(page: Page, screen: Preview, job: gr.BrowserState, values: Values) -> Iterator[Any]:
    """The base's picture and the LoRA's, step by step. What the same page asked for before is cancelled."""
    requests = _requests(page, screen, values[job], values)
    labels = [
        page.say(strings.preview.WITHOUT_LORA),
        page.say(strings.preview.WITH_LORA, strength=f"{requests[1].strength:g}"),
    ]
    yield from draw_pair(page, page.session, requests, labels)


def _requests(page: Page, screen: Preview, job: Any, values: Values) -> tuple[PreviewRequest, PreviewRequest]:
    """What to draw, checked: without the LoRA and with it."""
    spec = store.get_spec(page.workspace, find(page, job))
    lora = verdict.checkpoint_file(page, spec, values[screen.checkpoint])
    numbers = checked_numbers({path: values[field] for path, field in screen.numbers.items()})
    strength = checked_strength(values[screen.strength])
    prompt, negative = (checked_prompt(values[field]) for field in (screen.prompt, screen.negative))

    def request(file: Path | None, strength: float) -> PreviewRequest:
        return PreviewRequest(
            base=spec.base,
            lora=file,
            prompt=prompt,
            negative=negative,
            seed=numbers.train.seed,
            steps=numbers.sample.steps,
            guidance=numbers.sample.guidance,
            strength=strength,
        )

    return request(None, 0.0), request(lora, strength)


def initialise(page: Page, job_id: Any, initialised_for: str) -> list[Any]:
    """Values for `Preview.initial` when another job is shown: a prompt, the numbers of its samples, and no picture."""
    if job_id == initialised_for:
        return [gr.skip()] * 4 + [initialised_for]
    now = snapshot.take(page, job_id, False, "")
    if now.job is None or now.paths is None:
        return [gr.skip(), _nothing_to_try(page), gr.skip(), gr.skip(), ""]
    sample = now.job.spec.settings.sample
    return [
        _first_prompt(now.job, now.paths),
        notices.empty(page, strings.preview.DRAW_FIRST, strings.preview.DRAW_FIRST_HINT),
        sample.steps,
        sample.guidance,
        now.job.spec.id,
    ]


def _nothing_to_try(page: Page) -> Markup:
    return notices.empty(page, strings.preview.TRY_EMPTY, strings.preview.TRY_EMPTY_HINT)


def _first_prompt(job: runner.Job, paths: JobPaths) -> str:
    """The first caption as it is trained, else the trigger word alone."""
    try:
        return job.spec.caption(data.open_dataset(paths.dataset).items[0])
    except BadInput:
        return job.spec.settings.data.trigger.strip()


def live_parts(screen: Preview) -> dict[str, LivePart]:
    return {
        "checkpoint": LivePart(screen.checkpoint, _checkpoint),
        "strength": LivePart(screen.strength, _strength),
        "verdict": LivePart(screen.verdict, _verdict),
        "draw": LivePart(screen.button, lambda page, now, follower: gr.update(interactive=bool(follower.saved))),
    }


def _checkpoint(page: Page, now: Snapshot, follower: Follower) -> Any:
    return gr.update(choices=verdict.choices(page, follower, now.outcome))


def _strength(page: Page, now: Snapshot, follower: Follower) -> Any:
    recommended = now.outcome.recommended_strength if now.outcome and now.outcome.status == "done" else 1.0
    return gr.update(value=round(recommended * 20) / 20)  # the slider's own steps


def _verdict(page: Page, now: Snapshot, follower: Follower) -> Any:
    return verdict.view(page, now.job, follower, now.outcome, now.choice)
