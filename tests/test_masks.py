"""Masked loss: where masks come from, what they count, and that what is masked out teaches nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from sdlora.core.errors import BadInput
from sdlora.data import import_pictures, open_dataset, verify, with_captions
from sdlora.data.store import copy_dataset
from sdlora.train.batches import Sample, loss_per_sample, sample_losses
from sdlora.train.latents import CaptionedImage, read_mask
from sdlora.train.rng import draw
from sdlora.train.trainer import Trainer
from tests.families import ready
from tests.test_train import Trained


def half(mode: str, left: object, right: object, size: tuple[int, int] = (96, 64)) -> Image.Image:
    picture = Image.new(mode, size, left)  # type: ignore[arg-type]
    ImageDraw.Draw(picture).rectangle((size[0] // 2, 0, *size), fill=right)  # type: ignore[arg-type]
    return picture


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """One transparent picture, one with a drawn mask, one with a mask of another shape, one with none."""
    folder = tmp_path / "given"
    (folder / "masks").mkdir(parents=True)
    half("RGBA", (255, 0, 0, 255), (0, 0, 255, 0)).save(folder / "alpha.png")
    half("RGB", "red", "blue").save(folder / "drawn.jpg")
    half("L", 0, 255).save(folder / "masks" / "drawn.png")
    half("RGB", "green", "blue").save(folder / "other.png")
    half("L", 0, 255, (64, 96)).save(folder / "masks" / "other.png")
    half("RGB", "white", "blue").save(folder / "plain.png")
    half("L", 0, 255).save(folder / "masks" / "of-nothing.png")
    return folder


def test_masks_come_with_their_pictures(given: Path, tmp_path: Path) -> None:
    dataset = import_pictures([given], tmp_path / "sets")
    items = {i.name: i for i in dataset.items}
    assert sorted(items) == ["alpha.png", "drawn.jpg", "other.png", "plain.png"]
    assert [name for name, i in items.items() if i.mask] == ["alpha.png", "drawn.jpg"]
    assert [(one.name, "no picture" in one.reason.en) for one in dataset.skipped] == [("of-nothing.png", True)]
    assert any("other.png" in note.en and "mask" in note.en for note in dataset.notes)
    for name, kept in (("alpha.png", "left"), ("drawn.jpg", "right")):
        path = dataset.mask_path(items[name])
        assert path is not None
        mask = read_mask(path, (96, 64), (8, 12))
        white = mask[:, :6] if kept == "left" else mask[:, 6:]
        assert (white.mean().item(), mask.mean().item()) == (pytest.approx(1.0), pytest.approx(0.5)), name
    stored = {p.name for p in (dataset.folder / "pictures").iterdir()}
    assert stored == {Path(f).name for i in dataset.items for f in (i.file, i.mask) if f}

    again = open_dataset(copy_dataset(with_captions(dataset, {0: "new"}, tmp_path / "sets"), tmp_path / "job").folder)
    assert [i.mask for i in again.items] == [i.mask for i in dataset.items]
    verify(again)
    half("L", 255, 0).save(given / "masks" / "drawn.png")
    assert import_pictures([given], tmp_path / "sets").id != dataset.id, "another mask is another data set"


def test_what_is_masked_out_counts_nothing() -> None:
    target, mask = torch.zeros(2, 4, 4, 4), torch.zeros(2, 1, 4, 4)
    mask[0, :, :, :2], mask[1] = 1, 1
    wrong = torch.zeros(2, 4, 4, 4)
    wrong[:, :, :, 2:] = 5.0
    assert loss_per_sample(wrong, target, mask).tolist() == pytest.approx([0.0, 12.5])
    assert loss_per_sample(wrong + 1, target, mask).tolist() == pytest.approx([1.0, 18.5], rel=1e-5)
    assert loss_per_sample(wrong, target, mask * 0).tolist() == [0.0, 0.0]


def test_training_looks_at_the_masks_only(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The loss of a sample is that under its own mask, whatever else is in the batch."""
    run = ready("sd1", tmp_path_factory.mktemp("l"), tmp_path, **{"lora.targets": "attention"})
    trainer: Trainer = run.trainer
    mask = torch.zeros(8, 8)
    mask[:, :4] = 1
    d = draw(0, (4, 8, 8), 1000, 0)
    sample = Sample(torch.zeros(4, 8, 8), (16,) * 2 + (0, 0) + (16,) * 2, "red disc 0", d, mask)
    a = sample_losses(trainer, [sample]).item()
    assert a != sample_losses(trainer, [replace(sample, mask=None)]).item()
    assert a != sample_losses(trainer, [replace(sample, mask=mask.flip(-1))]).item()
    both = sample_losses(trainer, [sample, replace(sample, mask=None)])
    torch.testing.assert_close(both[0].item(), a)


def test_a_run_with_masks(tiny_base: Path, tmp_path: Path, given: Path) -> None:
    dataset = import_pictures([given], tmp_path / "datasets")
    pictures = [
        CaptionedImage(dataset.path(i), i.sha256, i.width, i.height, i.name, dataset.mask_path(i))
        for i in dataset.items
    ]
    files = {}
    for on in (False, True):
        trained = Trained(tmp_path / str(on), tiny_base, **{"data.masks": on, "train.steps": 2, "sample.steps": 1})
        trained.request = replace(trained.request, pictures=pictures)
        files[on] = trained().sha256
    assert files[True] != files[False]

    bare = Trained(tmp_path / "bare", tiny_base, **{"data.masks": True})
    with pytest.raises(BadInput, match="no picture of this set has a mask"):
        bare()
