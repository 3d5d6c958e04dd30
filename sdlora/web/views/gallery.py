"""A data set: its cards, what the import left out, the findings of the check-up, earlier data sets."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from sdlora.data import Dataset, Finding
from sdlora.web.context import Page
from sdlora.web.views.render import html

PER_PAGE = 300
NAMES_PER_FINDING = 6


def gallery(page: Page, dataset: Dataset | None, first: int = 0) -> Markup:
    """The cards from number `first` on, `PER_PAGE` of them."""
    if dataset is None:
        return html("no_pictures", page.language)
    media, last = page.site.media, min(first + PER_PAGE, len(dataset.items))
    return html(
        "gallery",
        page.language,
        name=dataset.name,
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
            "thumbnail": page.site.media.thumbnail(dataset.path(dataset.items[0])),
            "created": dataset.created[:16].replace("T", " "),
            "is_current": dataset.id == current,
        }
        for dataset in newest.values()
    ]
    return html("earlier_datasets", page.language, rows=rows)
