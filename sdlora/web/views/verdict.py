"""What came of a run, in plain words: the best checkpoint, the strength to use it with, the file to download."""

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
from sdlora.web.context import Page
from sdlora.web.strings import library_words, words
from sdlora.web.views import library_cards, numbers
from sdlora.web.views.progress import best_step

RECOMMENDED = "recommended"  # the choice that follows the verdict, whichever checkpoint that is


def choices(page: Page, follower: Follower, outcome: Outcome | None) -> list[tuple[str, str]]:
    """For the checkpoint field: the recommended one, then all, the last first."""
    best = best_step(follower, outcome)
    named = words.CHECKPOINT_BEST if outcome else words.CHECKPOINT_SO_FAR if best else words.CHECKPOINT_NONE
    top = page.say(named.fill(step=f"{best:,}"))
    rest = [(page.say(words.AT_STEP, step=f"{step:,}"), str(step)) for step in sorted(follower.saved, reverse=True)]
    return [(top, RECOMMENDED), *rest]


def chosen(page: Page, spec: JobSpec, choice: Any) -> Path:
    """The file of the chosen checkpoint. Raises BadInput where there is none."""
    paths = page.workspace.job(spec.id)
    with page.site.events.follow(paths) as follower:
        file = _file(paths, follower, Outcome.read(paths), choice)
    if file is None:
        raise BadInput(words.NO_CHECKPOINT)
    return file


def _file(paths: JobPaths, follower: Follower, outcome: Outcome | None, choice: Any) -> Path | None:
    if isinstance(choice, str) and choice.isascii() and choice.isdigit():
        saved = follower.saved.get(int(choice))
    elif outcome and outcome.file:
        return _existing(paths.folder / outcome.file)
    else:
        saved = follower.saved.get(best_step(follower, outcome))
    return _existing(paths.folder / saved.file) if saved else None


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def view(page: Page, job: Job | None, follower: Follower, outcome: Outcome | None, choice: Any = RECOMMENDED) -> Markup:
    lines = _sentences(follower, outcome) if job else []
    words_of_it = Markup("").join(Markup("<p>{}</p>").format(page.say(line)) for line in lines)
    head = Markup("<h3>{}</h3>").format(page.say(words.VERDICT)) if lines else Markup("")
    return Markup('<div class="verdict">{}{}{}</div>').format(
        head, words_of_it, _download(page, job, follower, outcome, choice)
    )


def _sentences(follower: Follower, outcome: Outcome | None) -> list[Text]:
    if outcome is None or outcome.status != "done":
        return [words.VERDICT_LATER]
    lines = [_judgement(follower, outcome)]
    if follower.judged and outcome.best_step != max(follower.judged):
        lines.append(words.VERDICT_OVERFIT)
    lines.append(words.VERDICT_STRENGTH.fill(strength=f"{outcome.recommended_strength:g}"))
    return [*lines, outcome.certificate] if outcome.certificate.en else lines


def _judgement(follower: Follower, outcome: Outcome) -> Text:
    judged = follower.judged.get(outcome.best_step)
    if judged is None:
        return words.VERDICT_UNJUDGED
    gain = judged.base_loss - judged.held_out_loss
    # Below two standard errors, or a thousandth, the difference says nothing.
    if gain <= max(2 * judged.noise, judged.base_loss / 1000):
        return words.VERDICT_NOISE.fill(step=f"{judged.step:,}")
    return words.VERDICT_BEST.fill(step=f"{judged.step:,}", gain=f"{100 * gain / judged.base_loss:.1f}")


def _download(page: Page, job: Job | None, follower: Follower, outcome: Outcome | None, choice: Any) -> Markup:
    """The link stands in the page from the start; without a file it says why it does nothing."""
    if job is not None:
        paths = page.workspace.job(job.spec.id)
        file = _file(paths, follower, outcome, choice)
        suffix = f"-step{int(choice):06d}" if isinstance(choice, str) and choice.isascii() and choice.isdigit() else ""
        name = f"{job.spec.name}{suffix}.safetensors"
        link = page.site.media.download(file, name) if file else ""
        if file and link:
            return Markup(
                '<p class="get"><a id="download" class="button" href="{}" download="{}">{}</a>{}<span>{}</span></p><p class="hint">{}</p>'
            ).format(
                link,
                name,
                page.say(words.DOWNLOAD),
                _everything(page, job) if outcome and not suffix else "",
                page.say(words.DOWNLOAD_NAME.fill(name=name, size=numbers.size(file.stat().st_size))),
                page.say(words.DOWNLOAD_HELP),
            )
    return Markup(
        '<p class="get"><a id="download" class="button" role="link" aria-disabled="true">{}</a><span>{}</span></p>'
    ).format(page.say(words.DOWNLOAD), page.say(words.DOWNLOAD_NONE))


def _everything(page: Page, job: Job) -> Markup:
    """The zip that the Library has too."""
    try:
        entry = catalog.get_entry(page.workspace, job.spec.id, page.user)
    except BadInput:
        return Markup("")
    return library_cards.archive(page, entry, page.say(library_words.EVERYTHING), "button plain")
