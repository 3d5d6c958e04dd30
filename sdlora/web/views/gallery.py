"""A data set: its cards, what the import left out, the findings of the check-up, earlier data sets."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from sdlora.core.text import Text
from sdlora.data import Dataset, Finding
from sdlora.web import strings
from sdlora.web.context import Page
from sdlora.web.views.render import html

PER_PAGE = 300
EXAMPLE = "blueprint-example"  # name of the data set that the example becomes, and so of its jobs and files
NAMES_PER_FINDING = 6


def gallery(page: Page, dataset: Dataset | None, first: int = 0, removed: str = "") -> Markup:
    """The cards from number `first` on, `PER_PAGE` of them; above them the way back for a picture just removed."""
    if dataset is None:
        return html("no_pictures", page.language)
    media, last = page.site.media, min(first + PER_PAGE, len(dataset.items))
    return html(
        "gallery",
        page.language,
        removed=removed,
        name=_name(dataset),
        count=len(dataset.items),
        per_page=PER_PAGE,
        first=first,
        previous=max(0, first - PER_PAGE),
        last=last,
        cards=[
            {"index": index, "item": item, "thumbnail": media.thumbnail(dataset.path(item))}
            for index, item in enumerate(dataset.items[first:last], first)
        ],
    )


def _name(dataset: Dataset) -> Text:
    """The example is named in the language of the page, all others by their files."""
    return strings.pictures.EXAMPLE_NAME if dataset.name == EXAMPLE else Text(dataset.name, dataset.name)


def import_report(page: Page, dataset: Dataset | None) -> Markup:
    """What the import left out, with the reason, and what it changed."""
    if dataset is None:
        return Markup("")
    return html("import_report", page.language, skipped=dataset.skipped, notes=dataset.notes, limit=PER_PAGE)


def findings(page: Page, found: Sequence[Finding]) -> Markup:
    return html("findings", page.language, findings=found, limit=NAMES_PER_FINDING)


def earlier_datasets(page: Page, datasets: Sequence[Dataset], current: str) -> Markup:
    """Newest first. Of data sets with one name only the newest: the others are its earlier edits."""
    newest: dict[str, Dataset] = {}
    for dataset in datasets:
        if dataset.id == current or dataset.name not in newest:
            newest[dataset.name] = dataset
    rows = [
        {
            "dataset": dataset,
            "name": _name(dataset),
            "thumbnail": page.site.media.thumbnail(dataset.path(dataset.items[0])),
            "created": dataset.created[:16].replace("T", " "),
            "is_current": dataset.id == current,
        }
        for dataset in newest.values()
    ]
    return html("earlier_datasets", page.language, rows=rows)
