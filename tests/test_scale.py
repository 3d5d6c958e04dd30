"""Work that must not grow with the number of jobs or pictures: counted, never timed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from diffusers import AutoencoderKL

from sdlora import config
from sdlora.core import events
from sdlora.data import import_pictures, with_captions
from sdlora.data.holdout import MAX_HELD_OUT, split
from sdlora.jobs import job_list, lock, runner, store
from sdlora.jobs.job_list import JobList
from sdlora.jobs.paths import Workspace
from sdlora.jobs.queue import Queue
from sdlora.jobs.spec import JobSpec, Outcome
from sdlora.train import batches, latents, setup
from sdlora.web import live
from sdlora.web.context import Page, Site
from sdlora.web.event_cache import EventCache
from sdlora.web.previews import Previews
from sdlora.web.screens import checkup, pictures, train
from sdlora.web.security.media import Media
from sdlora.web.snapshot import LivePart
from tests.conftest import draw_pictures
from tests.families import ready

opened: list[str] | None = None


def _hear(event: str, given: tuple[Any, ...]) -> None:
    if opened is not None and event in ("open", "os.listdir", "os.scandir"):
        opened.append(str(given[0]))


sys.addaudithook(_hear)  # cannot be taken away again: it hears only inside `files_opened`


def files_opened(work: Callable[[], Any]) -> int:
    """Files opened and folders listed."""
    global opened
    opened = []
    try:
        work()
        return len(opened)
    finally:
        opened = None


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace").make()


@pytest.fixture
def running(place: Workspace, tiny_base: Path) -> Iterator[JobSpec]:
    """A job that seems to run, since this process holds its lock."""
    dataset = import_pictures([draw_pictures(place.root / "pictures", 3)], place.datasets)
    spec = store.create(place, dataset, config.from_values({"model.base": str(tiny_base)}))
    held = lock.acquire(place.job(spec.id).lock)
    assert held is not None
    events.append(place.job(spec.id).events, events.Started(0, 100, 3, 0, 100, 1000, "cpu", "float32"))
    yield spec
    os.close(held)


def add_jobs(place: Workspace, model: JobSpec, count: int) -> list[JobSpec]:
    """Every other one done, the others in the queue."""
    made = [replace(model, id=f"{model.id}-{count}-{k}", created=model.created + k) for k in range(1, count + 1)]
    for number, spec in enumerate(made):
        paths = place.job(spec.id)
        paths.folder.mkdir()
        spec.write(paths)
        if number % 2:
            Outcome("done", 100, 50.0).write(paths)
    return made


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all folders had been left alone for a while."""
    monkeypatch.setattr(job_list, "SETTLED_NS", -1)
    monkeypatch.setattr(job_list, "SCAN_SECONDS", 600.0)


def test_an_event_and_a_pass_of_the_queue_open_no_more_files_for_more_jobs(
    place: Workspace, running: JobSpec, settled: None
) -> None:
    site = Site(place, Media(place.root), Previews(place.previews), EventCache(), JobList(place))
    page, queue = Page(site, "en"), Queue(place, shared=site.job_list)
    parts = {name: LivePart(gr.HTML(), draw) for name, draw in (("jobs", train._jobs), ("status", train._status))}

    def poll() -> None:
        live.tick(page, parts, running.id, [], "", "", "{}")

    poll()  # the first reads the templates
    counts = []
    for more in (10, 90):
        add_jobs(place, running, more)
        queue.tick()
        event = files_opened(poll)
        counts.append((event, files_opened(queue.tick)))
    assert counts[0] == counts[1]


def test_the_job_list_says_what_the_folders_say(place: Workspace, running: JobSpec, settled: None) -> None:
    seen = JobList(place)
    assert seen.jobs() == runner.jobs(place)
    queued, done = add_jobs(place, running, 2)
    assert next((j.spec.id, j.status) for j in seen.jobs()) == (done.id, "done"), "a new one is seen at once"
    version = seen.version
    assert seen.jobs_now() == runner.jobs(place)
    assert seen.version == version, "nothing has changed"
    changes: list[Callable[[], object]] = [
        lambda: runner.stop(place.job(queued.id)),
        lambda: runner.resume(place.job(queued.id)),
        lambda: runner.stop(place.job(running.id)),
        lambda: store.delete(place, done.id),
        lambda: place.job(queued.id).log.touch(),
    ]
    for change in changes:
        change()
        assert seen.jobs_now() == runner.jobs(place)
        assert seen.version != version
        version = seen.version


def test_a_worker_that_ends_without_a_mark_is_seen(place: Workspace, running: JobSpec, settled: None) -> None:
    (place.job(running.id).log).touch()
    other = add_jobs(place, running, 1)[0]
    seen, paths = JobList(place), place.job(other.id)
    paths.log.touch()
    held = lock.acquire(paths.lock)
    assert held is not None
    assert [j.status for j in seen.jobs()] == ["running", "running"]
    version = seen.version
    os.close(held)
    assert [j.status for j in seen.jobs()] == ["interrupted", "running"]
    assert seen.version != version, "a page that has seen it running asks for it anew"


def test_one_more_edit_reads_no_set_and_no_picture_again(place: Workspace) -> None:
    site = Site(place, Media(place.root), Previews(place.previews), EventCache(), JobList(place))
    page, counts = Page(site, "en"), []
    current = import_pictures([draw_pictures(place.root / "pictures", 6)], place.datasets)
    for number in range(12):
        current = with_captions(current, {0: f"caption {number}"}, place.datasets)

        def look(id: str = current.id) -> None:
            pictures.own_datasets(page)
            checkup.examine(page, [id], "", "", 64, True)

        counts.append(files_opened(look))
    assert counts[1] < counts[0], "pictures are looked at once"
    assert counts[1:] == counts[1:2] * 11
    assert len(pictures.own_datasets(page)) == 13


def test_latents_that_do_not_fit_into_memory_are_read_again(tmp_path: Path, tiny_base: Path, monkeypatch: Any) -> None:
    vae = AutoencoderKL.from_pretrained(tiny_base, subfolder="vae")
    drawn = sorted(draw_pictures(tmp_path / "pictures", 4).glob("*.png"))
    shown = [latents.CaptionedImage(file, file.stem, 64, 64, "") for file in drawn]
    cache = latents.LatentCache(tmp_path / "cache", "vae")

    def items() -> list[latents.TrainingItem]:
        encoder = latents.Encoder(vae, cache)
        return [encoder.item(image, (32, 32)) for image in shown]

    kept = [item.latent() for item in items()]
    monkeypatch.setattr(latents, "MEMORY_CACHE_BYTES", kept[0].plain.nbytes + kept[0].flipped.nbytes)
    some = items()
    assert [item.latent() is item.latent() for item in some] == [True, False, False, False]
    for file in cache.folder.iterdir():
        file.unlink()  # a cache may be emptied at any time
    some = [item.latent() for item in some]
    for before, after in zip(kept, some, strict=True):
        assert torch.equal(before.plain, after.plain)
        assert torch.equal(before.flipped, after.flipped)


def test_only_so_many_pictures_are_held_out() -> None:
    learn, held = split(100_000, 0.1, 0)
    assert (len(learn), len(held)) == (100_000 - MAX_HELD_OUT, MAX_HELD_OUT)


def test_texts_that_are_too_many_to_keep_train_the_same(tmp_path: Path, monkeypatch: Any) -> None:
    kept = ready("sd1", tmp_path, tmp_path, **{"train.text_encoder_lr": 0.0})
    monkeypatch.setattr(setup, "MAX_CACHED_TEXTS", 2)
    encoded = ready("sd1", tmp_path, tmp_path, **{"train.text_encoder_lr": 0.0})
    assert kept.trainer.text_cache
    assert encoded.trainer.text_cache is None
    losses = [batches.batch_losses(run.trainer, {0: 0, 1: 1}) for run in (kept, encoded)]
    torch.testing.assert_close(*losses)
