"""`python -m tests.dummy_setting`: what has become of a setting that was added to the package on the path, as JSON."""

from __future__ import annotations

import json

import gradio as gr

from sdlora import config
from sdlora.core.errors import BadInput
from sdlora.web import form


def refusal(*assignments: str) -> str:
    """What the command line says to these `--set`; "" where it takes them."""
    try:
        config.resolve(changes=[config.parse_assignment(text) for text in assignments])
    except BadInput as error:
        return error.text.ja
    return ""


if __name__ == "__main__":
    (setting,) = (s for s in config.settings() if s.path == "train.dummy")
    chosen = config.resolve(changes=map(config.parse_assignment, ["train.dummy=4", "train.warmup_steps=2"]))
    empty = form.Form({s.path: gr.State() for s in config.settings()})
    found = {
        "element": form.element_id(setting),
        "greyed where it has no effect": "train.dummy" in empty.dependent,
        "in job.json": json.loads(config.to_json(chosen))["train"]["dummy"],
        "too large": refusal("train.dummy=10", "train.warmup_steps=2"),
        "no integer": refusal("train.dummy=3.5", "train.warmup_steps=2"),
        "without effect": refusal("train.dummy=4", "train.warmup_steps=0"),
        "reason": config.inactive_settings(config.values_of(chosen) | {"train.warmup_steps": 0})["train.dummy"].ja,
    }
    print(json.dumps(found))
