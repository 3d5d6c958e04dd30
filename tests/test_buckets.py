"""Pictures of any size in one set: each in its own shape, nothing enlarged, each seen equally often."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sdlora.core.seeding import permutation
from sdlora.data.buckets import bucket, exposure, training_size
from sdlora.data.holdout import split
from sdlora.train import latents, loop
from sdlora.train import run as run_module
from sdlora.train.batches import BatchSampler
from sdlora.train.latents import CaptionedImage, sizes
from tests.test_train import Trained

SIDE, EPOCHS = 48, 2
SHAPES = [
    (64 + 24 * (k % 4), 64 + 20 * (k // 4)) for k in range(20)
]  # (width, height); both sides shorter and longer first


def test_many_pictures_of_twenty_sizes(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(set(SHAPES)) == 20
    pictures = []
    for k in range(60):
        width, height = SHAPES[k % 20]
        file = tmp_path / f"{k}.png"
        Image.new("RGB", (width, height), (k % 256, 7 * k % 256, 13 * k % 256)).save(file)
        pictures.append(CaptionedImage(file, f"{k:064x}", width, height, f"picture {k}"))

    read: dict[Path, tuple[int, int]] = {}
    pixels = latents._pixels
    monkeypatch.setattr(latents, "_pixels", lambda path, size: pixels(path, read.setdefault(path, size)))
    seen: Counter[int] = Counter()
    losses = loop.batch_losses

    def counted(trainer: Any, batch: dict[int, int]) -> Any:
        seen.update(batch.values())
        assert len({trainer.items[n].latent().plain.shape for n in batch.values()}) == 1
        return losses(trainer, batch)

    monkeypatch.setattr(loop, "batch_losses", counted)
    monkeypatch.setattr(run_module, "MIN_STEPS", 10_000)
    unit = 4  # pixels: the tiny VAE halves once, the tiny UNet once
    buckets = Counter(bucket(p.width, p.height, SIDE, unit) for p in pictures)
    batches = sum(-(-count // 16) for count in buckets.values())
    trained = Trained(
        tmp_path / "run",
        tiny_base,
        **{
            "train.resolution": SIDE,
            "train.batch_size": 16,
            "train.steps": EPOCHS * batches,
            "train.state_every": 1000,
        },
        **{"train.save_every": 1000, "train.sample_every": 1000, "sample.steps": 1, "data.held_out": 0.0},
    )
    trained.request = replace(trained.request, pictures=pictures)
    assert trained().finished
    assert seen == dict.fromkeys(range(60), EPOCHS)
    assert len(set(read.values())) > 10, "as many buckets as shapes that differ by more than the grid"
    for p in pictures:
        width, height = read[p.path]
        assert width <= p.width, "never enlarged"
        assert height <= p.height
        assert width * height <= SIDE * SIDE
        assert abs(width / height - p.width / p.height) < 0.15 * p.width / p.height, "its own shape, up to the grid"


@pytest.mark.parametrize(
    ("picture", "size", "told"),
    [
        ((1024, 1024), (1024, 1024), (1024, 1024, 0, 0, 1024, 1024)),
        ((2000, 1000), (1408, 704), (1000, 2000, 0, 0, 704, 1408)),
        ((300, 200), (256, 192), (200, 300, 0, 16, 192, 256)),
        ((200, 400), (192, 192), (400, 200, 96, 0, 192, 192)),
    ],
)
def test_sdxl_is_told_what_was_cut(picture: tuple[int, int], size: tuple[int, int], told: tuple[int, ...]) -> None:
    assert sizes(CaptionedImage(Path("x"), "", *picture, "x"), size) == told


def test_the_page_counts_as_the_trainer_shows() -> None:
    """How often each picture is seen: the trainer's own split, sizes and batches, worked out without torch."""
    chance = random.Random(0)
    for count, batch_size, steps in ((16, 8, 400), (40, 4, 7), (5, 3, 100), (300, 16, 50)):
        sizes = [(chance.randrange(64, 900), chance.randrange(64, 900)) for _ in range(count)]
        learn, _ = split(count, 0.1, seed=count)
        shapes = [training_size(*sizes[i], 512, 64, buckets=True) for i in learn]
        sampler = BatchSampler(shapes, batch_size, seed=0)
        shown = [len(sampler.batch(number)) for number in range(sampler.batches_per_epoch)]
        found = exposure(shapes, batch_size, steps)
        assert found.times == steps / sampler.batches_per_epoch
        assert found.pictures_per_batch == sum(shown) / len(shown)
        assert found.shapes == len(set(shapes))


@pytest.mark.parametrize("count", [1, 2, 8, 100, 1000])
def test_permutations_are_torchs(count: int) -> None:
    for seed in (0, 1, 2**32 + 7, 2**62 + 5):
        assert permutation(count, seed) == torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
