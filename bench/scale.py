"""Whether work per picture and per job stays the same where there are many: `python -m bench.scale pictures|jobs --count N`."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.load import call, memory
from sdlora import config
from sdlora.core import events
from sdlora.data import Dataset, check, copy_dataset, import_pictures, limits, open_dataset
from sdlora.jobs import lock, runner, store
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.queue import Queue
from sdlora.jobs.spec import JobSpec, Outcome
from tests.browser import App, started_app

SHAPES = ((64, 64), (96, 64), (64, 96), (80, 80), (96, 72), (88, 64))  # of the pictures, in turn
BATCH, STEPS = 8, 500
Row = dict[str, float]


def timed(work: Callable[[], Any], times: int = 1) -> tuple[float, Any]:
    """Median seconds, and the last answer."""
    taken, answer = [], None
    for _ in range(times):
        began = time.monotonic()
        answer = work()
        taken.append(time.monotonic() - began)
    return statistics.median(taken), answer


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


# Pictures


def draw_pictures(folder: Path, count: int) -> None:
    """Soft blobs of random colours with a caption each: no two alike."""
    folder.mkdir(parents=True)
    for number in range(count):
        cells = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(cells).resize(SHAPES[number % len(SHAPES)], Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:06d}.png", compress_level=1)
        (folder / f"{number:06d}.txt").write_text(f"blobs number {number}")


def measure_data(root: Path, count: int) -> Row:
    """Import, doctor and opening: a process without torch."""
    draw_pictures(root / "pictures", count)
    sets = root / "workspace" / "datasets"
    importing, dataset = timed(lambda: import_pictures([root / "pictures"], sets, "set", maximum=limits.LOCAL_FOLDER))
    after_import = peak_megabytes()
    shutil.rmtree(root / "pictures")
    doctor, _ = timed(lambda: check(dataset, 64))
    opening, _ = timed(lambda: open_dataset(dataset.folder))
    linking, _ = timed(lambda: copy_dataset(dataset, root / "workspace" / "copy" / "dataset"))
    return {
        "import, ms a picture": importing * 1e3 / count,
        "import, MB": after_import,
        "doctor, ms a picture": doctor * 1e3 / count,
        "doctor, MB": peak_megabytes(),
        "open the set, ms a picture": opening * 1e3 / count,
        "a job's own links, ms a picture": linking * 1e3 / count,
    }


def measure_training(root: Path, count: int, cached: int) -> Row:
    """Latents on the bundled base, buckets, order, and what a step asks of its data."""
    import torch

    from sdlora.models.bases import resolve_base
    from sdlora.models.load import load_base
    from sdlora.train import latents as module
    from sdlora.train.batches import BatchSampler
    from sdlora.train.rng import draw
    from sdlora.train.setup import Folders, Request, encode

    torch.set_num_threads(1)
    (folder,) = (root / "workspace" / "datasets").iterdir()
    dataset = open_dataset(folder)
    ref = resolve_base("emoji")
    base = load_base(ref, "fp32")
    images = [
        module.CaptionedImage(dataset.path(i), i.sha256, i.width, i.height, i.caption) for i in dataset.items[:cached]
    ]
    settings = config.from_values({"model.base": "emoji", "train.batch_size": BATCH})
    request = Request("scale", 0.0, ref, "", settings, images, {})
    folders = Folders(root / "run", root / "run", root / "run", root / "run", root / "cache")

    def encode_all() -> Sequence[module.TrainingItem]:
        items = encode(request, base, folders).items
        for item in items:
            item.latent()
        return items

    first, _ = timed(encode_all)
    again, items = timed(encode_all)
    module.MEMORY_CACHE_BYTES = 0
    read = encode(request, base, folders).items
    # Latents of the first pictures stand for those of all: the order is that of the whole set.
    shapes = [items[k % len(items)].shape for k in range(count)]
    ordering, sampler = timed(lambda: BatchSampler(shapes, BATCH, 0))
    epoch, _ = timed(lambda: sampler.batch(0))

    def step(items: Sequence[module.TrainingItem], number: int) -> None:
        latents = [items[k % len(items)].latent().plain for k in sampler.batch(number)]
        draws = [draw(number * BATCH + k, tuple(x.shape), 1000, 0) for k, x in enumerate(latents)]
        torch.stack([x + d.noise for x, d in zip(latents, draws, strict=True)])

    numbers = iter(range(2 * STEPS))
    in_memory, _ = timed(lambda: step(items, next(numbers) % sampler.batches_per_epoch), STEPS)
    from_disk, _ = timed(lambda: step(read, next(numbers) % sampler.batches_per_epoch), STEPS)
    return {
        "latents for the first time, ms a picture": first * 1e3 / len(items),
        "latents from the cache, ms a picture": again * 1e3 / len(items),
        "order of an epoch, µs a picture": (ordering + epoch) * 1e6 / count,
        "data of a step, latents in memory, ms": in_memory * 1e3,
        "data of a step, latents from the cache, ms": from_disk * 1e3,
    }


def pictures(counts: Sequence[int], options: argparse.Namespace) -> None:
    found: dict[int, Row] = {}
    for count in counts:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder, apart() as run:
            row: Row = run(measure_data, Path(folder), count)
            with apart() as run_anew:
                row |= run_anew(measure_training, Path(folder), count, min(count, options.cache_count))
            found[count] = row
            print(json.dumps({"count": count, **row}), flush=True)
    show("pictures", found)


@contextmanager
def apart() -> Iterator[Callable[..., Row]]:
    """A process of its own, so that what one measurement took is not counted for the next."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield lambda work, *given: pool.apply(work, given)


# Jobs


def make_jobs(workspace: Workspace, dataset: Dataset, count: int) -> tuple[JobPaths, int]:
    """The first seems to run, since this process holds its lock; one in five waits; the others are done, each with a file."""
    settings = config.from_values({"model.base": "emoji", "train.steps": 1000})
    first = store.create(workspace, dataset, settings, name="running")
    running = workspace.job(first.id)
    held = lock.acquire(running.lock)
    assert held is not None
    events.append(running.events, events.Started(0, 1000, 8, 0, 100, 1000, "cpu", "float32"))
    events.append(running.events, events.Stepped(1, 1.0, 1e-4, 3.0))
    for number in range(1, count):
        spec = replace(first, id=f"{first.id}-{number}", name=f"job-{number}", created=first.created + number)
        _write_job(workspace.job(spec.id), spec, running, done=number % 5 != 0)
    return running, held


def _write_job(paths: JobPaths, spec: JobSpec, model: JobPaths, done: bool) -> None:
    shutil.copytree(model.dataset, paths.dataset, copy_function=os.link)
    spec.write(paths)
    if done:
        paths.checkpoints.mkdir()
        shutil.copyfile(model.workspace.root / "lora.safetensors", paths.checkpoints / "step-001000.safetensors")
        paths.lock.touch()
        paths.log.touch()
        events.append(paths.events, events.Stepped(1000, 0.5, 1e-4, 0.5))
        Outcome("done", 1000, 500.0, "checkpoints/step-001000.safetensors", best_step=1000).write(paths)


def small_lora(file: Path) -> None:
    import torch

    from sdlora.core.safetensors_io import writer

    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors = {
        f"{name}.lora_down.weight": torch.ones(4, 32),
        f"{name}.lora_up.weight": torch.ones(32, 4),
        f"{name}.alpha": torch.tensor(4.0),
    }
    writer.write(file, tensors, {"ss_network_dim": "4"})


def in_this_process(workspace: Workspace, dataset: Dataset) -> Row:
    queue = Queue(workspace)
    time.sleep(3)  # what has changed just now is not trusted
    queue.tick()
    passing, _ = timed(queue.tick, 5)
    listing, _ = timed(lambda: runner.jobs(workspace), 5)
    settings = config.from_values({"model.base": "emoji", "train.steps": 7})
    adding, spec = timed(lambda: store.create(workspace, dataset, settings, name="one more"))
    store.delete(workspace, spec.id)
    return {"queue pass, ms": passing * 1e3, "list of jobs, ms": listing * 1e3, "one more job, ms": adding * 1e3}


class Asking:
    """A page's events by the number that gradio gave them."""

    def __init__(self, app: App):
        self.app, self.session = app, secrets.token_hex(5)
        self.parts = json.loads(call(app.url, "GET", "/en/config"))["dependencies"]

    def timer(self, inputs: int) -> int:
        """The event of a timer, told from others by how much it is given."""
        ticks = [k for k, part in enumerate(self.parts) if any(event == "tick" for _, event in part["targets"])]
        return next(k for k in ticks if len(self.parts[k]["inputs"]) == inputs)

    def ask(self, number: int, data: list[Any]) -> list[Any]:
        payload = {"fn_index": number, "data": data, "session_hash": self.session}
        headers = {"content-type": "application/json"}
        said = call(self.app.url, "POST", "/en/gradio_api/run/predict", headers, json.dumps(payload).encode())
        return list(json.loads(said)["data"])


def from_the_app(app: App, running: JobPaths, times: int) -> Row:
    page = Asking(app)
    live, library = page.timer(5), page.timer(2)
    said = page.ask(live, [running.id, [], "", "", "{}"])
    sent = said[-1]
    began = time.process_time(), _cpu(app)
    same, _ = timed(lambda: page.ask(live, [running.id, [], "", "", sent]), times)
    computing = (_cpu(app) - began[1]) / times
    fresh, _ = timed(lambda: page.ask(live, [running.id, [], "", "", "{}"]), times)
    seen = page.ask(library, ["", ""])[-1]
    shelf, _ = timed(lambda: page.ask(library, ["", ""]), max(2, times // 4))
    quiet, _ = timed(lambda: page.ask(library, ["", seen]), times)
    loading, _ = timed(lambda: call(app.url, "GET", "/en/"), times)
    idle = _cpu(app)
    time.sleep(10)
    return {
        "event, nothing new, ms": same * 1e3,
        "event, all parts, ms": fresh * 1e3,
        "processor time an event, ms": computing * 1e3,
        "event of the Library, nothing new, ms": quiet * 1e3,
        "event of the Library, all parts, ms": shelf * 1e3,
        "page, ms": loading * 1e3,
        "processor with no page open, %": (_cpu(app) - idle) * 10,
        "web process, MB": memory(app, "VmRSS") / 1e6,
    }


def _cpu(app: App) -> float:
    """Seconds of processor that the web process has used."""
    fields = Path(f"/proc/{app.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def jobs(counts: Sequence[int], options: argparse.Namespace) -> None:
    found: dict[int, Row] = {}
    for count in counts:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            workspace = Workspace(Path(folder) / "workspace").make()
            draw_pictures(Path(folder) / "pictures", 3)
            dataset = import_pictures([Path(folder) / "pictures"], workspace.datasets)
            small_lora(workspace.root / "lora.safetensors")
            running, held = make_jobs(workspace, dataset, count)
            row = in_this_process(workspace, dataset)
            with started_app(workspace.root) as app:
                found[count] = row | from_the_app(app, running, options.times)
            os.close(held)
            print(json.dumps({"count": count, **found[count]}), flush=True)
    show("jobs", found)


def show(what: str, found: dict[int, Row]) -> None:
    """A table in Markdown: a column for each count."""
    print(f"\n| {what} | " + " | ".join(f"{count:,}" for count in found) + " |")
    print("|---|" + "---|" * len(found))
    for name in next(iter(found.values())):
        print(f"| {name} | " + " | ".join(f"{row[name]:.3g}" for row in found.values()) + " |")
    print(f"\nload of the machine, 1 minute: {os.getloadavg()[0]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("pictures", "jobs"))
    parser.add_argument(
        "--count", type=int, required=True, help="the largest; a tenth and a hundredth are measured before"
    )
    parser.add_argument("--cache-count", type=int, default=100_000, help="pictures that become latents, at most")
    parser.add_argument("--times", type=int, default=20, help="that each question is asked of the app")
    parser.add_argument("--folder", type=Path, help="where all is made, and removed [default: the system's own]")
    options = parser.parse_args()
    counts = [options.count // part for part in (100, 10, 1) if options.count >= 2 * part]
    (pictures if options.what == "pictures" else jobs)(counts, options)


if __name__ == "__main__":
    main()
