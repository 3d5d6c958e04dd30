"""Runs on the three families' real block layouts, made ready without files of pictures: for tests that only need steps."""

from __future__ import annotations

import copy
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from sdlora import config
from sdlora.data.captions import without_trigger
from sdlora.families.base_model import Base
from sdlora.models.bases import resolve_base
from sdlora.models.load import Precision, load_base
from sdlora.train.latents import CaptionedImage, Latent, TrainingItem
from sdlora.train.loop import train
from sdlora.train.resume import State, capture, restore
from sdlora.train.setup import Folders, Request, Run, TrainingSet, prepare
from tests.layouts import make_folder

FAMILIES = ("sd1", "sd2", "sdxl")
PREDICTION = {"sd1": "epsilon", "sd2": "v_prediction", "sdxl": "epsilon"}
SETTINGS: dict[str, Any] = {
    "train.steps": 2,
    "train.batch_size": 2,
    "train.unet_lr": 1e-2,
    "train.text_encoder_lr": 1e-2,
    "train.precision": "fp32",
    "lora.rank": 4,
    "data.held_out": 0.0,
    "export.dtype": "fp32",
}


def folder_of(family: str, root: Path) -> Path:
    """The family's base in diffusers layout, made once in `root`."""
    found = root / family
    return found if found.exists() else make_folder(found, family, PREDICTION[family])


@cache
def _loaded(folder: Path, precision: Precision) -> Base:
    return load_base(resolve_base(str(folder)), precision, torch.device("cpu"))


def base_of(family: str, root: Path, precision: Precision = "fp32") -> Base:
    """A copy of the family's loaded base, to put adapters into."""
    return copy.deepcopy(_loaded(folder_of(family, root), precision))


def _same(latent: Latent) -> Latent:
    return latent


def ready(family: str, root: Path, out: Path, **changes: Any) -> Run:
    """A run just before its first step: four random latents, everything else as `sdlora.train.setup` makes it."""
    settings, g = config.from_values({**SETTINGS, **changes}), torch.Generator().manual_seed(3)
    shapes = [(4, 8, 8), (4, 8, 8), (4, 8, 12), (4, 8, 12)]
    items = []
    for k, shape in enumerate(shapes):
        height, width = 2 * shape[1], 2 * shape[2]
        image = CaptionedImage(out / f"{k}.png", "", width, height, f"red disc {k}")
        plain, flipped = torch.randn(shape, generator=g), torch.randn(shape, generator=g)
        latent = Latent(plain, flipped, (64, 64, 0, 0, height, width))
        prior = without_trigger(image.caption, settings.data.trigger, settings.data.class_prompt)
        items.append(TrainingItem(image, prior, (width, height), shape, partial(_same, latent)))
    request = Request(
        name="disc",
        created=1_700_000_000.0,
        base=resolve_base(str(folder_of(family, root))),
        base_fingerprint="",
        settings=settings,
        pictures=[item.image for item in items],
        versions={},
    )
    folders = Folders(out, out / "state", out / "checkpoints", out / "samples", out / "cache")
    return prepare(
        request, base_of(family, root, settings.train.precision), TrainingSet(items), folders, lambda event: None
    )


def steps(run: Run) -> dict[int, State]:
    """Train to the end; the state after each step, as it would be on disk."""
    found: dict[int, State] = {}

    def remember(step: int) -> None:
        kept = capture(run.trainer)
        found[step] = State(kept.step, {k: v.detach().clone() for k, v in kept.tensors.items()}, dict(kept.facts))

    train(run.trainer, lambda event: None, lambda: False, remember)
    return found


def assert_resumes_exactly(whole: dict[int, State], again: Run) -> None:
    """`again`, put back after the first step, ends where the unbroken run ended, bit for bit."""
    restore(again.trainer, whole[1])
    end = steps(again)
    last = max(whole)
    assert sorted(end) == list(range(2, last + 1))
    assert end[last].tensors.keys() == whole[last].tensors.keys()
    different = [k for k, v in whole[last].tensors.items() if not torch.equal(v, end[last].tensors[k])]
    assert not different, different[:3]
