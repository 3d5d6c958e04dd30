"""The verdict on a run: the best checkpoint, the recommended strength, the file to download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from sdlora.core.errors import BadInput
from sdlora.core.events import Follower
from sdlora.core.text import Text
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.runner import Job
from sdlora.jobs.spec import JobSpec, Outcome
from sdlora.library import catalog
from sdlora.web import strings
from sdlora.web.context import Page
from sdlora.web.views import library_cards, numbers
from sdlora.web.views.progress import best_step
from sdlora.web.views.render import html

RECOMMENDED = "recommended"  # the choice that follows the verdict, whichever checkpoint that is


def choices(page: Page, follower: Follower, outcome: Outcome | None) -> list[tuple[str, str]]:
    """For the checkpoint field: the recommended one, then all, the last first."""
    best = best_step(follower, outcome)
    own = strings.preview
    title = own.CHECKPOINT_BEST if outcome else own.CHECKPOINT_SO_FAR if best else own.CHECKPOINT_NONE
    top = page.say(title, step=f"{best:,}")
    rest = [
        (page.say(strings.train.AT_STEP, step=f"{step:,}"), str(step)) for step in sorted(follower.saved, reverse=True)
    ]
    return [(top, RECOMMENDED), *rest]


def checkpoint_file(page: Page, spec: JobSpec, choice: Any) -> Path:
    """The file of the chosen checkpoint. Raises BadInput where there is none."""
    paths = page.workspace.job(spec.id)
    with page.site.events.follow(paths) as follower:
        file = _file(paths, follower, Outcome.read(paths), choice)
    if file is None:
        raise BadInput(strings.preview.NO_CHECKPOINT)
    return file


def _file(paths: JobPaths, follower: Follower, outcome: Outcome | None, choice: Any) -> Path | None:
    if _is_step(choice):
        saved = follower.saved.get(int(choice))
    elif outcome and outcome.file:
        return _existing(paths.folder / outcome.file)
    else:
        saved = follower.saved.get(best_step(follower, outcome))
    return _existing(paths.folder / saved.file) if saved else None


def _is_step(choice: Any) -> bool:
    """Of the checkpoint field: a step, not `RECOMMENDED`, nor whatever else a browser sends."""
    return isinstance(choice, str) and choice.isascii() and choice.isdigit()


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def view(page: Page, job: Job | None, follower: Follower, outcome: Outcome | None, choice: Any = RECOMMENDED) -> Markup:
    """The download link stands in the page from the start; without a file it says why it does nothing."""
    values: dict[str, Any] = {"lines": _sentences(follower, outcome) if job else [], "link": ""}
    file = _file(page.workspace.job(job.spec.id), follower, outcome, choice) if job else None
    if job and file:
        suffix = f"-step{int(choice):06d}" if _is_step(choice) else ""
        name = f"{job.spec.name}{suffix}.safetensors"
        values |= {
            "link": page.site.media.download(file, name),
            "name": name,
            "size": numbers.size(file.stat().st_size),
            "archive": _archive(page, job) if outcome and not suffix else "",
        }
    return html("verdict", page.language, **values)


def _archive(page: Page, job: Job) -> Markup:
    """The zip with everything, as in the Library."""
    try:
        entry = catalog.get_entry(page.workspace, job.spec.id, page.user)
    except BadInput:
        return Markup("")
    return library_cards.archive(page, entry, page.say(strings.library.EVERYTHING), "button plain")


def _sentences(follower: Follower, outcome: Outcome | None) -> list[Text]:
    if outcome is None or outcome.status != "done":
        return [strings.preview.VERDICT_LATER]
    lines = [_judgement(follower, outcome)]
    if follower.judged and outcome.best_step != max(follower.judged):
        lines.append(strings.preview.VERDICT_OVERFIT)
    lines.append(strings.preview.VERDICT_STRENGTH.fill(strength=f"{outcome.recommended_strength:g}"))
    return [*lines, outcome.certificate] if outcome.certificate.en else lines


def _judgement(follower: Follower, outcome: Outcome) -> Text:
    judged = follower.judged.get(outcome.best_step)
    if judged is None:
        return strings.preview.VERDICT_UNJUDGED
    gain = judged.base_loss - judged.held_out_loss
    # Below two standard errors, or a thousandth, the difference says nothing.
    if gain <= max(2 * judged.noise, judged.base_loss / 1000):
        return strings.preview.VERDICT_NOISE.fill(step=f"{judged.step:,}")
    return strings.preview.VERDICT_BEST.fill(step=f"{judged.step:,}", gain=f"{100 * gain / judged.base_loss:.1f}")
