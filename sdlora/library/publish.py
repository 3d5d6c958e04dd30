"""Exports: the LoRA with the sidecar files that Forge and A1111 show, or everything as one zip."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdlora.core.errors import BadInput
from sdlora.core.files import sync_folder, walk, write_bytes
from sdlora.core.safetensors_io.header import read_header
from sdlora.core.text import Text
from sdlora.data import open_dataset
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.spec import JobSpec, Outcome
from sdlora.library.catalog import LibraryEntry
from sdlora.library.model_card import file_card, model_card
from sdlora.lora_files.inspect import inspect_file
from sdlora.lora_files.sidecar import sidecar

_DATE = (1980, 1, 1, 0, 0, 0)  # of every file in a zip: equal jobs give equal bytes


def export_file(paths: JobPaths, out: Path) -> list[Path]:
    """Copy the job's LoRA to `out`, with `name.json` and, where a sample was drawn, `name.png` beside it.

    Raises:
        BadInput: the job has no file yet.
    """
    file = _file(paths)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, file.read_bytes())
    written = [out, out.with_suffix(".json")]
    write_bytes(written[1], _sidecar(file))
    if picture := preview_picture(paths):
        written.append(out.with_suffix(".png"))
        write_bytes(written[2], picture.read_bytes())
    return written


def preview_picture(paths: JobPaths) -> Path | None:
    """The newest sample at full strength up to the chosen step; None where there is none."""
    outcome = Outcome.read(paths)
    step = outcome.best_step if outcome else 0
    found = [p for p in sorted(paths.samples.glob("step-*-0-100.png")) if _step(p) <= step]
    return found[-1] if found else None


def _step(sample: Path) -> int:
    return int(sample.name.split("-")[1])


def export_zip(paths: JobPaths, out: Path, name: str = "") -> Path:
    """Write a zip with the file, its sidecar and picture, the samples of that step, captions, settings and a model card.

    Captions are left out where the settings keep them out of the file. `name` is the job's own unless it was changed.

    Raises:
        BadInput: the job has no file yet.
    """
    file, spec, outcome = _file(paths), JobSpec.read(paths), Outcome.read(paths)
    assert outcome is not None
    name = name or spec.name
    texts = {
        f"{name}.json": _sidecar(file).decode(),
        "README.md": model_card(name, spec, outcome, read_header(file)[1]),
        "settings.json": _settings(spec),
        **_captions(paths, spec),
    }
    files = {f"{name}.safetensors": file}
    if picture := preview_picture(paths):
        files[f"{name}.png"] = picture
        same_step = sorted(paths.samples.glob(f"{picture.name.rsplit('-', 2)[0]}-*.png"))
        files |= {f"previews/{p.name}": p for p in [*sorted(paths.samples.glob("step-000000-*.png")), *same_step]}
    return _zip(out, name, texts, files)


def export_entry_zip(entry: LibraryEntry, out: Path) -> Path:
    """Write any Library entry as a zip; of a LoRA that was not trained here, only what its header says is known."""
    if entry.origin == "trained":
        return export_zip(JobPaths(entry.home.parent), out, entry.name)
    inspection = inspect_file(entry.file)
    texts = {f"{entry.name}.json": _json(sidecar(inspection.metadata)), "README.md": file_card(entry, inspection)}
    if entry.file.is_dir():
        files = {str(p.relative_to(entry.file)): p for p in walk(entry.file)}
    else:
        files = {f"{entry.name}.safetensors": entry.file}
    return _zip(out, entry.name, texts, files)


def _zip(out: Path, top: str, texts: Mapping[str, str], files: Mapping[str, Path]) -> Path:
    """Everything below the folder `top`. Stored, not compressed: weights and pictures do not shrink, and the bytes depend on the content alone."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted({**texts, **files}):
                info = zipfile.ZipInfo(f"{top}/{name}", _DATE)
                info.external_attr = 0o644 << 16
                if name in texts:
                    archive.writestr(info, texts[name])
                    continue
                info.file_size = files[name].stat().st_size
                with open(files[name], "rb") as source, archive.open(info, "w") as target:
                    shutil.copyfileobj(source, target)
        os.replace(temporary, out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(out.parent)
    return out


def _file(paths: JobPaths) -> Path:
    outcome = Outcome.read(paths)
    if outcome is None or not outcome.file:
        raise BadInput(
            Text(f"The job {paths.id} has no file yet.", f"ジョブ {paths.id} にはまだファイルがありません。")
        )
    return paths.folder / outcome.file


def _sidecar(file: Path) -> bytes:
    return _json(sidecar(read_header(file)[1])).encode()


def _json(value: Any) -> str:
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n"


def _settings(spec: JobSpec) -> str:
    """Without the base's local path, and without prompts where captions are private."""
    values = spec.settings.model_dump(exclude={"model"})
    if not spec.settings.export.captions:
        del values["sample"]["prompts"]
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _captions(paths: JobPaths, spec: JobSpec) -> dict[str, str]:
    if not spec.settings.export.captions:
        return {}
    found = {}
    for number, item in enumerate(open_dataset(paths.dataset).items):
        stem = Path(item.name).stem
        name = f"captions/{stem}.txt"
        name = f"captions/{stem}-{number}.txt" if name in found else name
        found[name] = spec.caption(item) + "\n"
    return found
