"""Each trainer's own command on the same work, and what a run of it took.

Equal work: 24 pictures of 256 pixels, batch 1, rank 16, base in bf16, AdamW, constant rate, two threads, no mirroring, no samples
on the way. Off for ours, since the peers have no such thing: held-out pictures, caption dropout, samples. On for ours all the same:
the estimate before the first step, a state every 50 steps, the verification at the end. What the peers' settings do not reach:
diffusers' script encodes picture and caption again in each step and keeps its adapters in bf16, sd-scripts encodes the caption again,
and adapts the feed-forward layers and projections of each transformer too (192 layers, not 128).

Peers are public checkouts, each run by a Python of its own; both scripts start without a launcher, which is the quicker way. No
torchvision can be installed beside torch 2.13, so `bench/shim` stands in for the few transforms that they import.
OpenMP waits as each trainer has it by default.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.work import RANK, SIDE, tokenizers
from sdlora.core.environment import child_environment

BENCH = Path(__file__).parent
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True)
class Task:
    """What is trained on, for how many steps, and where this run may write."""

    base: Path
    pictures: Path
    steps: int
    folder: Path


@dataclass(frozen=True)
class Peer:
    """A checkout and the Python that has what it needs."""

    checkout: Path
    python: Path


@dataclass(frozen=True)
class Taken:
    """What one run took. A step is the time between the ends of two optimizer steps; the wait lasts from the start of the
    command to the end of the first step, less one median step; peak is the largest resident size of the process that trains."""

    seconds: list[float]  # of each step but the first
    peak: int
    wait: float | None = None
    whole: float | None = None  # from the start of the command to its end, the file written

    @property
    def step(self) -> float:
        return statistics.median(self.seconds)


def ours(task: Task) -> list[str]:
    values = {
        "train.steps": task.steps,
        "train.resolution": SIDE,
        "train.batch_size": 1,
        "train.precision": "bf16",
        "train.unet_lr": 1e-4,
        "train.schedule": "constant",
        "train.warmup_steps": 0,
        "train.save_every": task.steps,
        "lora.rank": RANK,
        "lora.alpha": RANK,
        "lora.targets": "attention",
        "data.flip": "false",
        "data.held_out": 0,
        "data.caption_dropout": 0,
        "sample.draw": "false",
    }
    settings = [word for path, value in values.items() for word in ("--set", f"{path}={value}")]
    where = ["--base", str(task.base), "--workspace", str(task.folder)]
    return [sys.executable, "-m", "sdlora", "train", str(task.pictures), *where, *settings]


def diffusers(task: Task, peer: Peer) -> list[str]:
    script = peer.checkout / "examples/text_to_image/train_text_to_image_lora.py"
    return [
        *(str(peer.python), str(script)),
        *_options(
            pretrained_model_name_or_path=task.base,
            train_data_dir=task.pictures,
            caption_column="text",
            resolution=SIDE,
            train_batch_size=1,
            max_train_steps=task.steps,
            rank=RANK,
            learning_rate=1e-4,
            lr_scheduler="constant",
            lr_warmup_steps=0,
            mixed_precision="bf16",
            checkpointing_steps=10 * task.steps,
            seed=0,
            output_dir=task.folder,
        ),
        "--center_crop",
    ]


def sd_scripts(task: Task, peer: Peer) -> list[str]:
    return [
        *(str(peer.python), str(peer.checkout / "train_network.py")),
        *_options(
            pretrained_model_name_or_path=task.base,
            tokenizer_cache_dir=tokenizers(task.base),
            train_data_dir=task.pictures.parent,
            caption_extension=".txt",
            resolution=SIDE,
            train_batch_size=1,
            max_train_steps=task.steps,
            network_module="networks.lora",
            network_dim=RANK,
            network_alpha=RANK,
            optimizer_type="AdamW",
            learning_rate=1e-4,
            lr_scheduler="constant",
            mixed_precision="bf16",
            save_precision="fp16",
            save_model_as="safetensors",
            max_data_loader_n_workers=0,
            seed=0,
            output_dir=task.folder,
            output_name="lora",
        ),
        *("--network_train_unet_only", "--cache_latents", "--sdpa"),
    ]


def _options(**values: object) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def run(command: list[str], task: Task, threads: int, with_shim: bool) -> Taken:
    """Start it, wait for its end, and read the clock.

    Raises:
        SystemExit: it failed, or left no file.
    """
    task.folder.mkdir(parents=True)
    clock, log = task.folder / "clock.jsonl", task.folder / "bench.log"
    environment = {
        **os.environ,
        **OFFLINE,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": str(BENCH / "clock"),
        "HF_HOME": str(task.folder / "hub"),
        "BENCH_CLOCK": str(clock),
        **({"BENCH_SHIM": str(BENCH / "shim")} if with_shim else {}),
    }
    began = time.monotonic()
    with open(log, "wb") as file:
        done = subprocess.run(command, env=environment, stdout=file, stderr=file, check=False)
    whole = time.monotonic() - began
    if done.returncode or not list(task.folder.rglob("*.safetensors")):
        raise SystemExit(f"{' '.join(command)}\n{log.read_text(errors='replace')[-3000:]}")
    return _read(clock, task.steps, began, whole)


def _read(clock: Path, steps: int, began: float, whole: float) -> Taken:
    """The last so many steps: the estimate makes some before."""
    notes = [json.loads(line) for line in clock.read_text().splitlines()]
    ends = sorted(n["step"] for n in notes if "step" in n)[-steps:]
    if len(ends) != steps:
        raise SystemExit(f"{clock}: {len(ends)} steps, not {steps}")
    seconds = [after - before for before, after in pairwise(ends)]
    wait = ends[0] - began - statistics.median(seconds)
    return Taken(seconds, max(n["peak"] for n in notes if "peak" in n), wait, whole)


def floor(steps: int, threads: int) -> Taken:
    """Forward and backward alone, in an environment as our worker has it."""
    command = [sys.executable, "-m", "bench.step", "floor", "--precision", "bf16", "--steps", str(steps)]
    environment = {**os.environ, **child_environment(), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    said = json.loads(done.stdout.splitlines()[-1])
    return Taken(said["seconds"], said["peak_bytes"])
