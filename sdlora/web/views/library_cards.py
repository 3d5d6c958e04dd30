"""The Library: rows of LoRAs, tasks that are running or failed, the trash."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sdlora.core.text import Text
from sdlora.families import FAMILIES
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.spec import Outcome
from sdlora.library import publish, tasks
from sdlora.library.catalog import LibraryEntry
from sdlora.library.trash import MAX_DAYS, TrashItem
from sdlora.lora_files.inspect import Inspection
from sdlora.web import strings
from sdlora.web.context import Page
from sdlora.web.views import notices, numbers
from sdlora.web.views.render import html

MAX_ROWS = 100
JUST_DELETED = 120.0  # seconds that the newest one in the trash has its way back outside the fold


def shelf(page: Page, entries: Sequence[LibraryEntry], query: str) -> Markup:
    """Rows of those that fit the search."""
    own = strings.library
    found = [e for e in entries if matches(page, e, query)]
    if not entries:
        return notices.empty(page, own.EMPTY, own.EMPTY_HINT)
    if not found:
        return notices.empty(page, own.NOTHING_FOUND.fill(query=query.strip()), own.NOTHING_FOUND_HINT)
    rows = [_row(page, entry) for entry in found[:MAX_ROWS]]
    return html("library_shelf", page.language, rows=rows, more=len(found) - MAX_ROWS)


def _family_title(name: str) -> Text:
    """Of a family here; a file may be of none that is known."""
    title = FAMILIES[name].short_title if name in FAMILIES else ""
    return Text(title, title) if title else strings.library.FAMILY_UNKNOWN


def matches(page: Page, entry: LibraryEntry, query: str) -> bool:
    """Every word of the search is somewhere in its name, trigger word, base, trainer or kind."""
    if not query.strip():
        return True
    header = page.site.headers.inspect(entry.file)
    metadata = header.metadata if header else {}
    kind = [header.trainer, header.network, header.format, page.say(_family_title(header.family))] if header else []
    keys = ("modelspec.trigger_phrase", "ss_sd_model_name", "ss_output_name", "modelspec.title")
    values = (metadata.get(key, "") for key in keys)
    text = " ".join((entry.name, Path(entry.base).name, *entry.sources, *kind, *values)).casefold()
    return all(word in text for word in query.casefold().split())


def _row(page: Page, entry: LibraryEntry) -> dict[str, Any]:
    header = page.site.headers.inspect(entry.file)
    sample = publish.preview_picture(JobPaths(entry.home.parent)) if entry.origin == "trained" else None
    name = f"{entry.name}.safetensors"
    return {
        "entry": entry,
        "cover": page.site.media.thumbnail(sample) if sample else "",
        "facts": _facts(page, entry, header),
        "trigger": header.metadata.get("modelspec.trigger_phrase", "") if header else "",
        "details": _details(page, entry, header) if header else None,
        "file": page.site.media.download(entry.file, name) if entry.file.is_file() else "",
        "archive": archive(page, entry, page.say(strings.library.ZIP)),
    }


def _facts(page: Page, entry: LibraryEntry, header: Inspection | None) -> list[str]:
    own = strings.library
    if header is None:
        return [page.say(own.UNREADABLE)]
    return [
        page.say(_family_title(header.family)),
        *([header.network] if header.network != "lora" else []),
        *([page.say(own.RANK, rank=header.rank)] if header.rank else []),
        numbers.size(_bytes(entry.file)),
        page.say(own.ORIGIN[entry.origin]),
        time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.created)),
    ]


def _bytes(file: Path) -> int:
    return sum(p.stat().st_size for p in file.rglob("*")) if file.is_dir() else file.stat().st_size


def _details(page: Page, entry: LibraryEntry, header: Inspection) -> dict[str, str]:
    """By the keys of `strings.library.DETAIL`; the template leaves out what is empty."""
    answer = tasks.result(entry) if entry.origin not in ("trained", "added") else {}
    outcome = Outcome.read(JobPaths(entry.home.parent)) if entry.origin == "trained" else None
    alpha = f", {header.alpha:g}" if header.alpha is not None else ""
    return {
        "format": f"{header.format}, {header.network}, {header.dtype}",
        "trainer": header.trainer,
        "base": header.metadata.get("ss_sd_model_name", "") or Path(entry.base).name,
        "rank": f"{header.rank}{alpha}" if header.rank else "",
        "targets": ", ".join(f"{kind} {count}" for kind, count in header.targets.items()),
        "parameters": f"{header.parameters:,}",
        "strength": header.metadata.get("sdlora.recommended_strength", ""),
        "of": ", ".join(entry.sources),
        "energy": f"{answer['energy']:.1%}" if "energy" in answer else "",
        "sha256": entry.sha256 or str(answer.get("sha256", "")),
        "checked": page.say(outcome.certificate) if outcome else "",
    }


def archive(page: Page, entry: LibraryEntry, label: str, css_class: str = "") -> Markup:
    """The link to everything about it as one zip, which is made when it is followed. Empty where its file is gone."""
    try:
        facts = entry.file.stat()
    except OSError:
        return Markup("")
    content = f"{entry.id}\0{facts.st_mtime_ns}\0{facts.st_size}"
    link = page.site.media.archive(content, f"{entry.name}.zip", lambda out: publish.export_entry_zip(entry, out))
    return html("library_archive", page.language, link=link, name=entry.name, label=label, css_class=css_class)


def running_tasks(page: Page, entries: Sequence[LibraryEntry]) -> Markup:
    """Entries that are being made, with progress, and those that could not be made, with the reason."""
    status = {entry.id: tasks.status(entry) for entry in entries}
    found = [_task(page, entry, status[entry.id]) for entry in entries if status[entry.id] != "ready"]
    return html("library_tasks", page.language, tasks=found)


def _task(page: Page, entry: LibraryEntry, status: tasks.Status) -> dict[str, Any]:
    if status == "failed":
        return {"entry": entry, "progress": None, "reason": tasks.reason(entry)}
    progress = tasks.progress(entry)
    facts = [page.say(strings.library.PHASE.get(progress.phase, strings.library.PHASE[""]))]
    facts += [page.say(strings.library.OF, done=progress.done, total=progress.total)] if progress.total else []
    facts += [page.say(numbers.time_left(progress.seconds_left))] if progress.seconds_left is not None else []
    percent = f"{100 * progress.done / max(progress.total, 1):.1f}"
    return {"entry": entry, "progress": progress, "facts": facts, "percent": percent}


def trash(page: Page, deleted: Sequence[TrashItem]) -> Markup:
    """Newest first: one deleted just now has its way back in sight, all are in a fold."""
    if not deleted:
        return Markup("")
    newest = deleted[0] if deleted[0].seconds < JUST_DELETED else None
    return html("library_trash", page.language, just_deleted=newest, deleted=deleted, days=MAX_DAYS)
