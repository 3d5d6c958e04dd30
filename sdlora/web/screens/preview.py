"""Step 4, Try it: base and LoRA side by side from the same seed, with a slider for the strength."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from sdlora import config
from sdlora.core.events import Follower
from sdlora.jobs import store
from sdlora.processes.protocol import PreviewRequest
from sdlora.web.context import Page
from sdlora.web.form import Values
from sdlora.web.handlers import event
from sdlora.web.screens.train import Training, find
from sdlora.web.strings import words
from sdlora.web.views import verdict
from sdlora.web.views.gallery import empty
from sdlora.web.views.picture_pair import MAX_STRENGTH, checked_numbers, checked_prompt, checked_strength, draw_pair


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
        """What begins anew when another job is shown."""
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


def build(page: Page, training: Training) -> Preview:
    nothing = Follower(page.workspace.root)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            prompt = gr.Textbox(
                label=page.say(words.PROMPT), info=page.say(words.PROMPT_HELP), lines=2, elem_id="preview-prompt"
            )
            strength = gr.Slider(
                0.0,
                MAX_STRENGTH,
                1.0,
                step=0.05,
                label=page.say(words.STRENGTH),
                info=page.say(words.STRENGTH_HELP),
                elem_id="strength",
                buttons=[],
            )
            checkpoint = gr.Dropdown(
                verdict.choices(page, nothing, None),
                value=verdict.RECOMMENDED,
                label=page.say(words.CHECKPOINT),
                elem_id="checkpoint",
                allow_custom_value=True,
            )
            with gr.Row(elem_classes="seed"):
                seed = number_field(page, "train.seed", "preview-seed")
                dice = gr.Button(page.say(words.DICE), elem_id="dice", min_width=120)
            with gr.Accordion(page.say(words.DRAWING_OPTIONS), open=False):
                negative = gr.Textbox(label=page.say(words.NEGATIVE), elem_id="preview-negative")
                with gr.Row():
                    steps = number_field(page, "sample.steps", "preview-steps")
                    guidance = number_field(page, "sample.guidance", "preview-guidance")
            button = gr.Button(page.say(words.DRAW), variant="primary", elem_id="preview-draw", interactive=False)
        with gr.Column(scale=3, min_width=320):
            picture = gr.HTML(empty(page.say(words.TRY_EMPTY), page.say(words.TRY_EMPTY_HINT)), elem_id="preview-image")
            judged = gr.HTML(verdict.view(page, None, nothing, None), elem_id="verdict")
    fields = {"train.seed": seed, "sample.steps": steps, "sample.guidance": guidance}
    screen = Preview(prompt, negative, fields, strength, checkpoint, button, picture, judged, gr.State(""))
    _connect(page, screen, training, dice)
    return screen


def number_field(page: Page, path: str, element: str) -> gr.Number:
    setting = next(s for s in config.settings() if s.path == path)
    step = 1 if setting.kind == "int" else 0.5
    return gr.Number(setting.default, label=page.say(setting.label), step=step, elem_id=element, min_width=120)


def _connect(page: Page, screen: Preview, training: Training, dice: gr.Button) -> None:
    seed = screen.numbers["train.seed"]
    drawing: dict[str, Any] = {
        "fn": event(page, draw, screen, training),
        "inputs": {training.job, *screen.inputs},
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
    screen.prompt.focus(event(page, warm_up), training.job, None, show_progress="hidden")


def roll(page: Page) -> int:
    return secrets.randbelow(2**31)


def warm_up(page: Page, job: Any) -> None:
    """Somebody is about to write a prompt: load the model meanwhile."""
    if job:
        page.site.previews.warm_up()


def draw(page: Page, screen: Preview, training: Training, values: Values) -> Iterator[Any]:
    """The base's picture and the LoRA's, step by step. What the same page asked for before is cancelled."""
    requests = _requests(page, screen, values[training.job], values)
    labels = [page.say(words.WITHOUT_LORA), page.say(words.WITH_LORA, strength=f"{requests[1].strength:g}")]
    yield from draw_pair(page, page.session, requests, labels)


def _requests(page: Page, screen: Preview, job: Any, values: Values) -> tuple[PreviewRequest, PreviewRequest]:
    """What to draw, checked: without the LoRA and with it."""
    spec = store.get_spec(page.workspace, find(page, job))
    lora = verdict.chosen(page, spec, values[screen.checkpoint])
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
