"""Prior preservation: without the trigger word, the base's own predictions are the goal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sdlora import config
from sdlora.core.errors import BadInput
from sdlora.data.captions import without_trigger
from sdlora.train.batches import Sample, batch_losses, prior_losses, sample_losses
from sdlora.train.rng import draw
from sdlora.train.setup import Run
from tests.families import ready, steps

TRIGGER = {"data.trigger": "red", "data.class_prompt": "round", "data.caption_dropout": 0.0, "data.flip": False}


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


@pytest.mark.parametrize(
    ("caption", "instead", "plain"),
    [
        ("zz, a dog, outside", "", "a dog, outside"),
        ("zz, a dog", "a pet", "a pet, a dog"),
        ("a photo of ZZ in snow", "a dog", "a photo of a dog in snow"),
        ("a photo of zz, smiling", "", "a photo of, smiling"),
        ("fizz, buzz", "", "fizz, buzz"),
        ("zz", "", ""),
        (r"zz \1", r"\g<0>", r"\g<0> \1"),
    ],
)
def test_the_trigger_leaves_its_place(caption: str, instead: str, plain: str) -> None:
    assert without_trigger(caption, "zz", instead) == plain


def distance(run: Run) -> float:
    """How far the adapters move the base on what is asked without the trigger."""
    with torch.no_grad():
        asked = [
            Sample(i.latent().plain, i.latent().sizes, i.prior_caption, draw(100 + k, i.shape, 1000, 0))
            for k, i in enumerate(run.trainer.items)
        ]
        return sum(prior_losses(run.trainer, [one]).item() for one in asked)


@pytest.mark.parametrize("text_encoder_lr", [0.0, 1e-2])
def test_the_prior_is_the_base(layouts: Path, tmp_path: Path, text_encoder_lr: float) -> None:
    """Untrained, it costs nothing; trained with it, the base's answers stay nearer than without."""
    far = {}
    for weight in (0.0, 10.0):
        changes = {**TRIGGER, "train.text_encoder_lr": text_encoder_lr, "train.prior_weight": weight or 1e-9}
        run = ready("sd1", layouts, tmp_path, **changes, **{"train.steps": 6, "lora.targets": "attention"})
        assert run.trainer.items[0].prior_caption == "round disc 0"
        assert distance(run) == 0.0
        steps(run)
        far[weight] = distance(run)
    assert 0 < far[10.0] < 0.8 * far[0.0]


def test_weight_and_gradients(layouts: Path, tmp_path: Path) -> None:
    run = ready("sd1", layouts, tmp_path, **TRIGGER, **{"train.prior_weight": 0.5, "lora.targets": "attention"})
    steps(run)
    together = batch_losses(run.trainer, {8: 0, 9: 1})
    samples = [
        Sample(i.latent().plain, i.latent().sizes, i.caption, draw(8 + k, i.shape, 1000, 0))
        for k, i in enumerate(run.trainer.items[:2])
    ]
    plain = [Sample(s.x_0, s.sizes, f"round disc {k}", s.draw) for k, s in enumerate(samples)]
    apart = sample_losses(run.trainer, samples) + 0.5 * prior_losses(run.trainer, plain)
    torch.testing.assert_close(together, apart)
    prior_losses(run.trainer, plain).sum().backward()
    assert all(p.grad is not None for p in run.trainer.adapters.parameters_of("unet"))


def test_it_needs_a_trigger_word() -> None:
    with pytest.raises(BadInput, match="needs a data"):
        config.from_values({"train.prior_weight": 1.0})
