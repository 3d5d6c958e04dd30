"""The Library on disk: what is in it, and LoRAs made of others by real processes."""

from __future__ import annotations

import json
import os
import signal
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sdlora import config
from sdlora.core.errors import BadInput
from sdlora.data import import_pictures
from sdlora.jobs import store
from sdlora.jobs.job_list import JobList
from sdlora.jobs.ownership import User
from sdlora.jobs.paths import Workspace
from sdlora.jobs.spec import Outcome
from sdlora.library import catalog, publish, tasks, trash
from sdlora.library.catalog import LibraryEntry
from sdlora.lora_files import write
from sdlora.lora_files.layers import Layer, Lora
from tests.conftest import draw_pictures

Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def lora_file(file: Path, seed: int = 1, rank: int = 4, width: int = 16, layers: int = 1) -> Path:
    g = torch.Generator().manual_seed(seed)
    paths = [Q.replace("transformer_blocks.0", f"transformer_blocks.{n}") for n in range(layers)]
    made = [
        Layer("unet", p, torch.randn(rank, width, generator=g), torch.randn(width, rank, generator=g), 2.0)
        for p in paths
    ]
    said = {"ss_output_name": file.stem, "modelspec.trigger_phrase": "zz"}
    return write.write_lora(file, Lora(tuple(made), "sd1", said), "kohya")


@pytest.fixture
def place(tmp_path: Path, forked: str) -> Workspace:
    return Workspace(tmp_path / "workspace").make()


def trained(place: Workspace, tmp_path: Path, tiny_base: Path) -> str:
    """A job as a worker leaves it."""
    dataset = import_pictures([draw_pictures(tmp_path / "pictures", 3)], place.datasets)
    spec = store.create(place, dataset, config.from_values({"model.base": str(tiny_base)}), name="discs")
    paths = place.job(spec.id)
    paths.checkpoints.mkdir()
    file = lora_file(paths.checkpoints / "step-000004.safetensors")
    Outcome("done", 4, 1.0, str(file.relative_to(paths.folder)), "0" * 64, 4).write(paths)
    return spec.id


def waited(entry: LibraryEntry, place: Workspace) -> LibraryEntry:
    for _ in range(1200):
        if tasks.status(entry) != "working":
            return catalog.get_entry(place, entry.id)
        time.sleep(0.1)
    raise AssertionError("it takes too long")


def test_files_from_outside(place: Workspace, tmp_path: Path) -> None:
    first = catalog.add_file(place, lora_file(tmp_path / "a.safetensors"), "my style (v2).safetensors")
    assert first.name == "my-style-v2"
    assert first.file.is_file()
    assert not (tmp_path / "a.safetensors").exists()  # moved
    assert tasks.status(first) == "ready"
    with pytest.raises(BadInput, match="already, as “my-style-v2”"):
        catalog.add_file(place, lora_file(tmp_path / "again" / "a.safetensors"), "x.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "c.safetensors")
    with pytest.raises(BadInput, match=r"holiday\.safetensors holds 1 tensors"):
        catalog.add_file(place, tmp_path / "c.safetensors", "holiday.safetensors")
    (tmp_path / "d.safetensors").write_bytes(b"\xff" * 100)
    for name, says in (("d.safetensors", "not a whole safetensors"), ("d.ckpt", "no .safetensors file")):
        with pytest.raises(BadInput, match=says):
            catalog.add_file(place, tmp_path / "d.safetensors", name)
    assert [e.id for e in catalog.list_entries(place)] == [first.id]
    assert {p.name for p in catalog.folder(place).iterdir()} == {first.id}


def stamp(place: Workspace) -> str:
    return catalog.version(JobList(place))


def test_rename_delete_and_back(place: Workspace, tmp_path: Path, tiny_base: Path) -> None:
    job = trained(place, tmp_path, tiny_base)
    added = catalog.add_file(place, lora_file(tmp_path / "a.safetensors", 2), "a.safetensors")
    assert [(e.name, e.origin) for e in catalog.list_entries(place)] == [("a", "added"), ("discs", "trained")]
    before = added.file.read_bytes()
    stamps = [stamp(place)]
    assert catalog.rename(place, added.id, "水彩 画").name == "水彩-画"
    stamps.append(stamp(place))
    assert catalog.rename(place, job, "round").name == "round"
    stamps.append(stamp(place))
    assert added.file.read_bytes() == before
    with pytest.raises(BadInput, match="Another LoRA is called"):
        catalog.rename(place, job, "水彩 画")
    for id in (job, added.id):
        time.sleep(0.02)  # a tick of the file system's clock, which says what was deleted last
        trash.delete(place, id)
        stamps.append(stamp(place))
        with pytest.raises(BadInput, match="not in the Library"):
            catalog.get_entry(place, id)
    assert [(d.id, d.name) for d in trash.list_trash(place)] == [(added.id, "水彩-画"), (job, "round")]
    assert len(set(stamps)) == len(stamps)  # the page sees each of these
    assert trash.restore(place, job).name == "round"
    with pytest.raises(BadInput, match="gone for good"):
        trash.restore(place, job)
    trash.empty_trash(place, days=trash.MAX_DAYS)
    assert [d.id for d in trash.list_trash(place)] == [added.id]
    trash.empty_trash(place)
    assert not trash.list_trash(place)
    assert [e.id for e in catalog.list_entries(place)] == [job]
    for bad in ("../" + job, "", "file-../x", "file-none"):
        with pytest.raises(BadInput):
            catalog.get_entry(place, bad)
        with pytest.raises(BadInput):
            trash.restore(place, bad)


@pytest.fixture
def held_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Processes that are started now work when this file is there."""
    monkeypatch.setenv("SDLORA_TEST_FAULT", json.dumps({"wait_for": str(tmp_path / "go")}))
    return tmp_path / "go"


def test_made_of_others_by_a_process(place: Workspace, tmp_path: Path, held_back: Path) -> None:
    a, b = (catalog.add_file(place, lora_file(tmp_path / f"{n}.safetensors", n), f"{n}.safetensors") for n in (1, 2))
    wanted = catalog.new_entry(place, "both", "merged", sources=(a.name, b.name))
    entry = tasks.start(place, wanted, ["merge", f"{a.file}:0.5", f"{b.file}:-1"])
    assert tasks.status(entry) == "working"
    while_working = stamp(place)
    with pytest.raises(BadInput, match="being made"):
        tasks.start(place, catalog.new_entry(place, "c", "merged"), ["merge", f"{a.file}:1"])
    with pytest.raises(BadInput, match="still being made"):
        trash.delete(place, entry.id)
    held_back.touch()
    entry = waited(entry, place)
    assert (tasks.status(entry), entry.name, entry.sources) == ("ready", "both", ("1", "2"))
    assert stamp(place) != while_working  # the page sees that it is ready
    assert tasks.result(entry)["rank"] == 8
    name = "lora_unet_" + Q.replace(".", "_")
    parts = [load_file(e.file) for e in (a, b, entry)]
    deltas = [
        p[f"{name}.alpha"]
        / len(p[f"{name}.lora_down.weight"])
        * p[f"{name}.lora_up.weight"]
        @ p[f"{name}.lora_down.weight"]
        for p in parts
    ]
    torch.testing.assert_close(deltas[2], 0.5 * deltas[0] - deltas[1], atol=1e-4, rtol=1e-4)

    peft = waited(
        tasks.start(
            place,
            catalog.new_entry(place, "p", "converted", sources=("both",)),
            ["convert", str(entry.file), "--to", "peft"],
        ),
        place,
    )
    assert (tasks.status(peft), peft.file.name) == ("ready", "peft")
    with zipfile.ZipFile(publish.export_entry_zip(peft, tmp_path / "p.zip")) as archive:
        assert {"p/unet/adapter_config.json", "p/unet/adapter_model.safetensors", "p/README.md"} <= set(
            archive.namelist()
        )


def test_a_refused_a_killed_and_a_cancelled_one(place: Workspace, tmp_path: Path, held_back: Path) -> None:
    held_back.touch()
    a = catalog.add_file(place, lora_file(tmp_path / "a.safetensors"), "a.safetensors")
    failed = waited(
        tasks.start(place, catalog.new_entry(place, "small", "resized"), ["resize", str(a.file), "--rank", "9"]), place
    )
    assert tasks.status(failed) == "failed"
    assert "rank is 4" in tasks.reason(failed).en
    assert "ランクは 4" in tasks.reason(failed).ja
    held_back.unlink()
    killed = tasks.start(place, catalog.new_entry(place, "k", "resized"), ["resize", str(a.file), "--rank", "2"])
    os.killpg(json.loads((killed.home / "process.json").read_text())["pid"], signal.SIGKILL)
    killed = waited(killed, place)
    assert (tasks.status(killed), tasks.reason(killed).en[:17]) == ("failed", "The process ended")
    cancelled = tasks.start(place, catalog.new_entry(place, "c", "resized"), ["resize", str(a.file), "--rank", "2"])
    tasks.cancel(place, cancelled.id)
    assert not cancelled.home.exists()
    for entry in (failed, killed):
        trash.delete(place, entry.id)
    assert [e.id for e in catalog.list_entries(place)] == [a.id]


def test_progress_is_read_from_what_the_command_tells(place: Workspace, tmp_path: Path) -> None:
    entry = catalog.add_file(place, lora_file(tmp_path / "a.safetensors"), "a.safetensors")
    assert tasks.progress(entry) == tasks.Progress("", 0, 0, None)
    (entry.home / "log.txt").write_text("a library's warning\nmerging: 1 of 9\ncutting: 3 of 12\n")
    told = tasks.progress(LibraryEntry(**{**vars(entry), "created": time.time() - 30}))
    assert (told.phase, told.done, told.total) == ("cutting", 3, 12)
    assert told.seconds_left == pytest.approx(90, abs=2)


def test_a_zip_of_a_file_from_outside(place: Workspace, tmp_path: Path) -> None:
    entry = catalog.add_file(place, lora_file(tmp_path / "a.safetensors"), "a.safetensors")
    catalog.rename(place, entry.id, "b")
    out = publish.export_entry_zip(catalog.get_entry(place, entry.id), tmp_path / "b.zip")
    with zipfile.ZipFile(out) as archive:
        assert set(archive.namelist()) == {"b/b.safetensors", "b/b.json", "b/README.md"}
        assert archive.read("b/b.safetensors") == entry.file.read_bytes()
        assert json.loads(archive.read("b/b.json"))["activation text"] == "zz"
        assert "rank 4" in archive.read("b/README.md").decode()


def test_each_user_has_their_own(place: Workspace, tmp_path: Path) -> None:
    alice, bob, admin = User("alice", False), User("bob", False), User("root", True)
    entry = catalog.add_file(place, lora_file(tmp_path / "a.safetensors"), "a.safetensors", alice)
    assert [len(catalog.list_entries(place, user)) for user in (alice, bob, admin)] == [1, 0, 1]
    for change in (catalog.get_entry, trash.delete, tasks.cancel):
        with pytest.raises(BadInput, match="not in the Library"):
            change(place, entry.id, bob)
    twin = catalog.add_file(
        place, lora_file(tmp_path / "b.safetensors"), "a.safetensors", bob
    )  # who may not see it has it too
    assert (twin.name, catalog.get_entry(place, twin.id, bob).owner) == ("a-2", "bob")
    trash.delete(place, entry.id, alice)
    assert [len(trash.list_trash(place, user)) for user in (alice, bob)] == [1, 0]
    trash.empty_trash(place, user=bob)
    with pytest.raises(BadInput, match="gone for good"):
        trash.restore(place, entry.id, bob)
    assert trash.restore(place, entry.id, alice).name == "a"
