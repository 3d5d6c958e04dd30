"""The one timer of the page: takes a snapshot and sends only the parts that changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import gradio as gr

from sdlora.core import files
from sdlora.jobs.paths import JobPaths
from sdlora.web import snapshot
from sdlora.web.context import Page
from sdlora.web.handlers import event
from sdlora.web.screens.pictures import Pictures
from sdlora.web.screens.preview import Preview
from sdlora.web.screens.screen import Built
from sdlora.web.screens.train import Train
from sdlora.web.snapshot import LivePart


def build(page: Page, built: Built, parts: Mapping[str, LivePart]) -> None:
    timer, job, checkpoint = built[gr.Timer], built[Train].job, built[Preview].checkpoint
    # Fingerprints of what the page shows. They are kept there: the server cannot know which of its answers arrived last.
    fingerprints = gr.Textbox("{}", visible="hidden", elem_id="sent")
    gr.on(
        [timer.tick, job.change, checkpoint.input],
        event(page, tick, parts),
        [job, *built[Pictures].current, checkpoint, fingerprints],
        [*(part.component for part in parts.values()), timer, fingerprints],
        show_progress="hidden",
        queue=False,
        trigger_mode="always_last",  # one at a time
    )


def tick(
    page: Page,
    parts: Mapping[str, LivePart],
    job_id: Any,
    history: list[str],
    dataset_id: Any,
    choice: Any,
    fingerprints: str,
) -> list[Any]:
    """The parts that changed since the last tick, the timer's interval, and the fingerprints of what the page shows from now on."""
    current = _parse(fingerprints)
    seconds = page.site.polling.interval(page.session)
    interval = gr.skip() if current.get("seconds", 1) == seconds else gr.update(value=seconds)
    now = snapshot.take(page, job_id, bool(history or dataset_id), choice)
    with page.site.events.follow(now.paths or JobPaths(page.workspace.jobs / "none")) as follower:
        stamp = _fingerprint((now, follower.offset, files.tail(now.paths.log, 200) if now.paths else ""))
        if current.get("stamp") == stamp:
            return [*[gr.skip()] * len(parts), interval, json.dumps({**current, "seconds": seconds})]
        values = {name: part.draw(page, now, follower) for name, part in parts.items()}
    new = {name: _fingerprint(value) for name, value in values.items()}
    changed = [value if new[name] != current.get(name) else gr.skip() for name, value in values.items()]
    return [*changed, interval, json.dumps({**new, "stamp": stamp, "seconds": seconds})]


def _parse(fingerprints: str) -> dict[str, Any]:
    """What the browser says that it shows; anything else counts as nothing."""
    try:
        current = json.loads(fingerprints or "{}")
    except ValueError:
        return {}
    return current if isinstance(current, dict) else {}


def _fingerprint(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
