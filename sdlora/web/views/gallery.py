"""A data set as the page shows it: thumbnails with their captions, what was left out, the doctor's findings."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from sdlora.data import Dataset, Finding, Item
from sdlora.web.context import Page
from sdlora.web.strings import words

PER_PAGE = 300


def gallery(page: Page, dataset: Dataset | None, first: int = 0) -> Markup:
    """Cards `first` to `first + PER_PAGE`. All text in it is data: Markup escapes it."""
    if dataset is None:
        example = Markup('<button type="button" data-do="example">{}</button>').format(page.say(words.EXAMPLE))
        return empty(page.say(words.GALLERY_EMPTY), page.say(words.GALLERY_EMPTY_HINT), example)
    shown = list(enumerate(dataset.items[first : first + PER_PAGE], first))
    return Markup(
        '<div class="dataset-head"><strong>{}</strong><span>{}</span></div>{}<ul class="cards">{}</ul>'
    ).format(
        dataset.name,
        page.say(words.COUNT, count=len(dataset.items)),
        _pager(page, len(dataset.items), first),
        Markup("").join(_card(page, dataset, index, item) for index, item in shown),
    )


def _card(page: Page, dataset: Dataset, index: int, item: Item) -> Markup:
    return Markup(
        '<li class="card"><img src="{}" alt="{}" loading="lazy" width="{}" height="{}">'
        '<textarea rows="3" data-do="caption" data-index="{}" data-picture="{}" aria-label="{}" placeholder="{}">\n{}</textarea>'
        '<div class="card-foot"><span title="{}">{}</span>'
        '<button type="button" data-do="remove" data-index="{}" data-picture="{}" aria-label="{}">{}</button></div></li>'
    ).format(
        page.site.media.thumbnail(dataset.path(item)),
        item.name,
        item.width,
        item.height,
        index,
        item.sha256,
        page.say(words.CAPTION_OF, name=item.name),
        page.say(words.NO_CAPTION),
        item.caption,
        item.name,
        item.name,
        index,
        item.sha256,
        page.say(words.REMOVE_ONE, name=item.name),
        page.say(words.REMOVE),
    )


def _pager(page: Page, count: int, first: int) -> Markup:
    if count <= PER_PAGE:
        return Markup("")
    last = min(first + PER_PAGE, count)
    button = Markup('<button type="button" data-do="page" data-first="{}" {}>{}</button>')
    return Markup('<div class="pager">{}<span>{}</span>{}</div>').format(
        button.format(max(0, first - PER_PAGE), Markup("disabled") if first == 0 else "", page.say(words.PREVIOUS)),
        page.say(words.PAGE_OF, first=first + 1, last=last, count=count),
        button.format(last, Markup("disabled") if last >= count else "", page.say(words.NEXT)),
    )


def report(page: Page, dataset: Dataset | None) -> Markup:
    """What was left out, and why; and what was changed while importing."""
    if dataset is None or not (dataset.skipped or dataset.notes):
        return Markup("")
    skipped = [Markup("<b>{}</b> {}").format(one.name, page.say(one.reason)) for one in dataset.skipped[:PER_PAGE]]
    if len(skipped) < len(dataset.skipped):
        skipped.append(Markup("…"))
    notes = [page.say(note) for note in dataset.notes]
    return Markup("").join(
        (
            _fold(page.say(words.SKIPPED, count=len(dataset.skipped)), skipped, opened=True),
            _fold(page.say(words.NOTES), notes, opened=len(notes) < 4),
        )
    )


def _fold(title: str, lines: Sequence[str], opened: bool) -> Markup:
    if not lines:
        return Markup("")
    rows = Markup("").join(Markup("<li>{}</li>").format(line) for line in lines)
    return Markup('<details class="report"{}><summary>{}</summary><ul>{}</ul></details>').format(
        Markup(" open") if opened else "", title, rows
    )


def findings(page: Page, found: Sequence[Finding]) -> Markup:
    if not found:
        return Markup('<div class="doctor"><h3>{}</h3><p>{}</p></div>').format(
            page.say(words.DOCTOR), page.say(words.DOCTOR_FINE)
        )
    rows = Markup("").join(
        Markup('<li class="{}"><b>{}</b><div>{} <span>{}</span>{}</div></li>').format(
            one.severity,
            page.say(words.SEVERITY[one.severity]),
            page.say(one.text),
            page.say(one.fix),
            _names(one.items),
        )
        for one in found
    )
    return Markup('<div class="doctor"><h3>{}</h3><ul>{}</ul></div>').format(page.say(words.DOCTOR), rows)


def _names(items: Sequence[str]) -> Markup:
    if not items:
        return Markup("")
    more = f" +{len(items) - 6}" if len(items) > 6 else ""
    return Markup("<small>{}{}</small>").format(", ".join(items[:6]), more)


def earlier(page: Page, datasets: Sequence[Dataset], current: str) -> Markup:
    """A list to choose from. Of data sets with one name only the newest: the others are its earlier edits."""
    newest: dict[str, Dataset] = {}
    for dataset in datasets:  # newest first
        if dataset.id == current or dataset.name not in newest:
            newest[dataset.name] = dataset
    if not newest:
        return Markup('<p class="hint">{}</p>').format(page.say(words.EARLIER_NONE))
    rows = Markup("").join(_row(page, dataset, dataset.id == current) for dataset in newest.values())
    return Markup('<ul class="rows">{}</ul>').format(rows)


def _row(page: Page, dataset: Dataset, current: bool) -> Markup:
    button = Markup('<button type="button" data-do="open" data-id="{}">{}</button>').format(
        dataset.id, page.say(words.USE)
    )
    return Markup('<li><img src="{}" alt="" loading="lazy"><div><b>{}</b><span>{} · {}</span></div>{}</li>').format(
        page.site.media.thumbnail(dataset.path(dataset.items[0])),
        dataset.name,
        page.say(words.COUNT, count=len(dataset.items)),
        dataset.created[:16].replace("T", " "),
        Markup("<em>{}</em>").format(page.say(words.IN_USE)) if current else button,
    )


def empty(title: str, hint: str, action: Markup | None = None) -> Markup:
    """An empty place says what will be there and what to do for it."""
    return Markup('<div class="empty"><strong>{}</strong><span>{}</span>{}</div>').format(title, hint, action or "")
