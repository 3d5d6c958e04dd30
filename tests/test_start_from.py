"""A LoRA that is trained further: it begins with what the file does to the base, and nothing of the file is lost without a word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sdlora import config
from sdlora.core.errors import BadInput
from sdlora.data import import_pictures
from sdlora.jobs import store
from sdlora.jobs.paths import Workspace
from sdlora.library import catalog
from sdlora.lora_files.read import read_lora
from sdlora.train.setup import Run, encode, load, prepare
from tests.conftest import draw_pictures
from tests.test_train import Trained


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """The file of a short training of rank 4."""
    result = Trained(tmp_path_factory.mktemp("first"), tiny_base, **{"export.dtype": "fp32"})()
    assert result.file
    return result.file


def prepared(root: Path, base_folder: Path, start: Path, **changes: Any) -> Run:
    job = Trained(root, base_folder, **changes)
    request = replace(job.request, start=start)
    base = load(request)
    return prepare(request, base, encode(request, base, job.folders), job.folders, job.events.append)


@pytest.mark.parametrize("changes", [{}, {"lora.rank": 6, "lora.alpha": 3.0}, {"lora.kind": "rslora", "lora.rank": 8}])
def test_it_begins_with_what_the_file_does(
    tmp_path: Path, tiny_base: Path, first: Path, changes: dict[str, Any]
) -> None:
    run = prepared(tmp_path, tiny_base, first, **changes)
    layers = {(x.part, x.path): x for x in read_lora(first).layers}
    found = {(part, path): layer for part, paths in run.trainer.adapters.parts.items() for path, layer in paths.items()}
    assert {(part, path) for part, path in found} == layers.keys()
    for where, layer in found.items():
        wanted = layers[where].delta()
        assert wanted.abs().max() > 0
        torch.testing.assert_close(run.trainer.adapters.delta_weight(layer), wanted, rtol=1e-5, atol=1e-7)


def test_it_is_trained_further_and_resumed_without_the_file(tmp_path: Path, tiny_base: Path, first: Path) -> None:
    copy = tmp_path / "start.safetensors"
    copy.write_bytes(first.read_bytes())
    whole, broken = (Trained(tmp_path / name, tiny_base) for name in ("whole", "broken"))
    for job in (whole, broken):
        job.request = replace(job.request, start=copy)
    ended = whole()
    broken.stop_at = 3
    assert not broken().finished
    copy.unlink()
    broken.request, broken.stop_at = replace(broken.request, start=None), None
    assert broken().sha256 == ended.sha256 != ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lora.rank": 2}, "its rank is 4: set lora.rank to 4 or more"),
        ({"lora.targets": "attention"}, "not trained with these settings"),
        ({"lora.kind": "dora"}, "does not fit these settings"),
    ],
)
def test_what_would_lose_something_is_refused(
    tmp_path: Path, tiny_base: Path, first: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadInput, match=reason):
        prepared(tmp_path, tiny_base, first, **changes)


def test_a_name_of_the_library_or_on_the_command_line_a_file(tmp_path: Path, tiny_base: Path, first: Path) -> None:
    place = Workspace(tmp_path / "workspace").make()
    dataset = import_pictures([draw_pictures(tmp_path / "pictures", 3)], place.datasets)
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(first.read_bytes())

    def settings(wanted: str) -> config.Config:
        return config.from_values({"model.base": str(tiny_base), "model.start_from": wanted})

    assert catalog.resolve_start_from(place, settings("")) is None
    assert catalog.resolve_start_from(place, settings(str(mine)), files=True) == mine
    with pytest.raises(BadInput, match="in the Library"):  # as a browser asks: no path on the server
        catalog.resolve_start_from(place, settings(str(mine)))
    entry = catalog.add_file(place, mine, "older.safetensors")
    file = catalog.resolve_start_from(place, settings("older"))
    assert file == entry.file
    with pytest.raises(BadInput, match="no LoRA 'older' to start from"):
        store.create(place, dataset, settings("older"))
    paths = place.job(store.create(place, dataset, settings("older"), start=file).id)
    assert paths.start.read_bytes() == first.read_bytes()
