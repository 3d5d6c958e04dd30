"""The sample pictures of a run: by prompt, the newest step first, its strengths side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from sdlora.core.events import Follower, Sampled
from sdlora.jobs.paths import JobPaths
from sdlora.web.context import Page
from sdlora.web.views.render import html

MAX_STEPS = 8  # rows a prompt


def samples(page: Page, paths: JobPaths | None, follower: Follower) -> Markup:
    if paths is None:
        return html("samples", page.language, groups=[])
    every = list(follower.samples.values())
    prompts = dict.fromkeys(sample.prompt for sample in every)
    groups = [
        {"prompt": prompt, "rows": _rows(page, paths, [s for s in every if s.prompt == prompt])} for prompt in prompts
    ]
    return html("samples", page.language, groups=groups)


def _rows(page: Page, paths: JobPaths, found: Sequence[Sampled]) -> list[dict[str, Any]]:
    """Newest step first. The base alone never changes: its picture of any step serves all."""
    base = [s for s in found if s.strength == 0][:1]
    steps = sorted({s.step for s in found if s.strength > 0} or {s.step for s in found}, reverse=True)
    rows = []
    for step in steps[:MAX_STEPS]:
        own = sorted((s for s in found if s.step == step and s.strength > 0), key=lambda s: s.strength)
        rows.append({"step": step, "pictures": [_picture(page, paths, s) for s in (*base, *own)]})
    return rows


def _picture(page: Page, paths: JobPaths, sample: Sampled) -> dict[str, Any]:
    return {
        "link": page.site.media.picture(paths.folder / sample.file),
        "step": sample.step,
        "prompt": sample.prompt,
        "strength": f"{sample.strength:g}",
        "is_base": sample.strength == 0,
    }
