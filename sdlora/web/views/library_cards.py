"""The Library as HTML: rows of LoRAs, what is being made, what was deleted. All text in it is data: Markup escapes it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from markupsafe import Markup

from sdlora.core.text import Text
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.spec import Outcome
from sdlora.library import publish, tasks, trash
from sdlora.library.catalog import LibraryEntry
from sdlora.lora_files.inspect import Inspection
from sdlora.web.context import Page
from sdlora.web.strings import library_words as words
from sdlora.web.views import numbers
from sdlora.web.views.gallery import empty

SHOWN = 100
JUST = 120.0  # seconds that the last deleted one has its way back at hand


def shelf(page: Page, entries: Sequence[LibraryEntry], query: str) -> Markup:
    """Rows of those that are ready and fit the search."""
    found = [e for e in entries if matches(page, e, query)]
    if not entries:
        return empty(page.say(words.EMPTY), page.say(words.EMPTY_HINT))
    if not found:
        return empty(page.say(words.NOTHING_FOUND, query=query.strip()), page.say(words.NOTHING_FOUND_HINT))
    rows = Markup("").join(_row(page, entry) for entry in found[:SHOWN])
    more = len(found) - SHOWN
    rest = Markup('<p class="hint">{}</p>').format(page.say(words.MORE, count=more)) if more > 0 else ""
    return Markup('<ul class="shelf">{}</ul>{}').format(rows, rest)


def matches(page: Page, entry: LibraryEntry, query: str) -> bool:
    """Every word of the search is somewhere in its name, trigger word, base, trainer or kind."""
    if not query.strip():
        return True
    known = page.site.headers.inspect(entry.file)
    said = known.metadata if known else {}
    kind = [known.trainer, known.network, known.format, page.say(words.FAMILY[known.family])] if known else []
    keys = ("modelspec.trigger_phrase", "ss_sd_model_name", "ss_output_name", "modelspec.title")
    text = " ".join(
        (entry.name, Path(entry.base).name, *entry.sources, *kind, *(said.get(k, "") for k in keys))
    ).casefold()
    return all(word in text for word in query.casefold().split())


def _row(page: Page, entry: LibraryEntry) -> Markup:
    known = page.site.headers.inspect(entry.file)
    facts = " · ".join(_facts(page, entry, known))
    trigger = known.metadata.get("modelspec.trigger_phrase", "") if known else ""
    return Markup(
        '<li>{}<div class="about"><input type="text" data-do="rename" data-id="{}" value="{}" aria-label="{}" maxlength="60" '
        'spellcheck="false"><span>{}</span>{}{}</div><div class="row-actions">{}</div></li>'
    ).format(
        _cover(page, entry),
        entry.id,
        entry.name,
        page.say(words.NAME_OF, name=entry.name),
        facts,
        Markup('<span class="trigger">{}</span>').format(page.say(words.TRIGGER, trigger=trigger)) if trigger else "",
        _details(page, entry, known),
        _actions(page, entry),
    )


def _cover(page: Page, entry: LibraryEntry) -> Markup:
    """A sample where one was drawn, else the name's first letter."""
    picture = publish.preview_picture(JobPaths(entry.home.parent)) if entry.origin == "trained" else None
    link = page.site.media.thumbnail(picture) if picture else ""
    if link:
        alt = page.say(words.COVER_OF, name=entry.name)
        return Markup('<img src="{}" alt="{}" loading="lazy">').format(link, alt)
    return Markup('<span class="cover" aria-hidden="true">{}</span>').format(entry.name[:1].upper())


def _facts(page: Page, entry: LibraryEntry, known: Inspection | None) -> Iterator[str]:
    if known is None:
        yield page.say(words.UNREADABLE)
        return
    yield page.say(words.FAMILY[known.family])
    if known.network != "lora":
        yield known.network
    if known.rank:
        yield page.say(words.RANK, rank=known.rank)
    yield numbers.size(_size(entry.file))
    yield page.say(words.ORIGIN[entry.origin])
    yield time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.created))


def _size(file: Path) -> int:
    return sum(p.stat().st_size for p in file.rglob("*")) if file.is_dir() else file.stat().st_size


def _details(page: Page, entry: LibraryEntry, known: Inspection | None) -> Markup:
    if known is None:
        return Markup("")
    said, answer = known.metadata, tasks.result(entry) if entry.origin not in ("trained", "added") else {}
    outcome = Outcome.read(JobPaths(entry.home.parent)) if entry.origin == "trained" else None
    alpha = f", {known.alpha:g}" if known.alpha is not None else ""
    values = {
        "format": f"{known.format}, {known.network}, {known.dtype}",
        "trainer": known.trainer,
        "base": said.get("ss_sd_model_name", "") or Path(entry.base).name,
        "rank": f"{known.rank}{alpha}" if known.rank else "",
        "targets": ", ".join(f"{kind} {count}" for kind, count in known.targets.items()),
        "parameters": f"{known.parameters:,}",
        "strength": said.get("sdlora.recommended_strength", ""),
        "of": ", ".join(entry.sources),
        "energy": f"{answer['energy']:.1%}" if "energy" in answer else "",
        "sha256": entry.sha256 or str(answer.get("sha256", "")),
        "checked": page.say(outcome.certificate) if outcome else "",
    }
    rows = Markup("").join(
        Markup("<dt>{}</dt><dd>{}</dd>").format(page.say(words.DETAIL[name]), value)
        for name, value in values.items()
        if value
    )
    return Markup("<details><summary>{}</summary><dl>{}</dl></details>").format(page.say(words.DETAILS), rows)


def _actions(page: Page, entry: LibraryEntry) -> Markup:
    file = ""
    if entry.file.is_file():
        name = f"{entry.name}.safetensors"
        file = Markup('<a href="{}" download="{}" aria-label="{}">{}</a>').format(
            page.site.media.download(entry.file, name),
            name,
            page.say(words.FILE_ONE, name=entry.name),
            page.say(words.FILE),
        )
    return Markup("").join(
        (
            button(page, "compare", entry.id, words.COMPARE, words.COMPARE_ONE.fill(name=entry.name)),
            file,
            archive(page, entry, page.say(words.ZIP)),
            button(page, "remove", entry.id, words.DELETE, words.DELETE_ONE.fill(name=entry.name)),
        )
    )


def archive(page: Page, entry: LibraryEntry, label: str, look: str = "") -> Markup:
    """The link to everything about it as one zip, which is made when it is followed."""
    try:
        facts = entry.file.stat()
    except OSError:
        return Markup("")
    content = f"{entry.id}\0{facts.st_mtime_ns}\0{facts.st_size}"
    name = f"{entry.name}.zip"
    link = page.site.media.archive(content, name, lambda out: publish.export_entry_zip(entry, out))
    return Markup('<a href="{}" download="{}" class="{}" aria-label="{}" title="{}">{}</a>').format(
        link, name, look, page.say(words.ZIP_ONE, name=entry.name), page.say(words.ZIP_HINT), label
    )


def button(page: Page, do: str, id: str, label: Text, spoken: Text) -> Markup:
    return Markup('<button type="button" data-do="{}" data-id="{}" aria-label="{}">{}</button>').format(
        do, id, page.say(spoken), page.say(label)
    )


def workbench(page: Page, entries: Sequence[LibraryEntry]) -> Markup:
    """What is being made, with how far it is, and what could not be made, with the reason."""
    parts = []
    for entry in entries:
        state = tasks.status(entry)
        if state == "working":
            parts.append(_working(page, entry))
        elif state == "failed":
            parts.append(_failed(page, entry))
    return Markup("").join(parts)


def _working(page: Page, entry: LibraryEntry) -> Markup:
    told = tasks.progress(entry)
    facts = [page.say(words.PHASE.get(told.phase, words.PHASE[""]))]
    facts += [page.say(words.OF, done=told.done, total=told.total)] if told.total else []
    facts += [page.say(numbers.left(told.seconds_left))] if told.seconds_left is not None else []
    return Markup(
        '<div class="working"><div class="job-head"><strong>{}</strong>{}</div>'
        '<div class="bar{}" role="progressbar" aria-label="{}" aria-valuemin="0" aria-valuemax="{}" aria-valuenow="{}">'
        '<i style="width:{:.1f}%"></i></div><p class="facts">{}</p></div>'
    ).format(
        entry.name,
        button(page, "cancel", entry.id, words.CANCEL, words.CANCEL_ONE.fill(name=entry.name)),
        "" if told.total else " waiting",
        entry.name,
        told.total or 1,
        told.done,
        100 * told.done / max(told.total, 1),
        " · ".join(facts),
    )


def _failed(page: Page, entry: LibraryEntry) -> Markup:
    title = words.FAILED.fill(name=entry.name)
    return Markup('<div class="problem" role="alert"><b>{}</b> {} {}</div>').format(
        page.say(title),
        page.say(tasks.reason(entry)),
        button(page, "cancel", entry.id, words.DISMISS, words.DISMISS),
    )


def wastebasket(page: Page, found: Sequence[trash.TrashItem]) -> Markup:
    """What was deleted: the one just now with its way back at hand, the others in a fold."""
    if not found:
        return Markup("")
    parts = [_gone(page, one, words.WAS_DELETED.fill(name=one.name)) for one in found[:1] if one.seconds < JUST]
    rows = Markup("").join(
        Markup("<li><div><b>{}</b><span>{}</span></div>{}</li>").format(
            one.name, numbers.size(one.size), _back(page, one)
        )
        for one in found
    )
    size = numbers.size(sum(one.size for one in found))
    fold = Markup(
        '<details><summary>{}</summary><ul class="rows">{}</ul><p class="hint">{} <button type="button" data-do="empty">{}</button></p></details>'
    ).format(
        page.say(words.DELETED, count=len(found)),
        rows,
        page.say(words.TRASH_HINT, days=trash.MAX_DAYS),
        page.say(words.EMPTY_TRASH, size=size),
    )
    return Markup('<div class="bin">{}{}</div>').format(Markup("").join(parts), fold)


def _gone(page: Page, one: trash.TrashItem, sentence: Text) -> Markup:
    return Markup('<p role="status">{} {}</p>').format(page.say(sentence), _back(page, one))


def _back(page: Page, one: trash.TrashItem) -> Markup:
    return button(page, "back", one.id, words.PUT_BACK, words.PUT_BACK_ONE.fill(name=one.name))
