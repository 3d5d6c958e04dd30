"""Holding shapes: where noise is strong, the base's own answer is asked for, with the picture's average colour."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sdlora.train.loop import Sample, sample_losses
from sdlora.train.loss import Diffusion
from sdlora.train.prepare import Run
from sdlora.train.randomness import draw
from tests.families import ready

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ALONE = {"train.text_encoder_lr": 0.0, "data.flip": False, "data.caption_dropout": 0.0}


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


def asked(here: Run, timestep: int, hold: float) -> Sample:
    latent = here.trainer.pictures.latents[0]
    d = replace(draw(3, tuple(latent.plain.shape), 1000, 0), timestep=timestep)
    return Sample(latent.plain, latent.sizes, here.trainer.pictures.captions[0], d, hold=hold)


def test_shapes_are_held_where_noise_hides_them() -> None:
    diffusion = Diffusion.of(SCHEDULE, "epsilon")
    assert [round(diffusion.hides_shapes(t), 3) for t in (0, 600, 700, 800, 999)] == [0, 0, 0.5, 1, 1]


@pytest.mark.parametrize("family", ["sd1", "sd2"])  # noise and velocity
def test_an_untrained_lora_is_off_by_the_average_colour_alone(layouts: Path, tmp_path: Path, family: str) -> None:
    """It answers as the base does, so with its shapes held only the mean of each channel differs."""
    here = ready(family, layouts, tmp_path, **ALONE)
    t, diffusion, sample = torch.tensor([900]), here.trainer.diffusion, asked(here, 900, 1.0)
    x_0, noise = sample.x_0[None], sample.draw.noise[None]
    x_t, target = diffusion.noised(x_0, noise, t), diffusion.target(x_0, noise, t)
    with torch.no_grad():
        states = here.trainer.pictures.texts[sample.caption].states[None] if here.trainer.pictures.texts else None
        answer = here.trainer.base.unet(x_t, t, encoder_hidden_states=states, return_dict=False)[0]
    loss = sample_losses(here.trainer, [sample])
    weight = diffusion.weight(t, here.trainer.settings.train.min_snr_gamma)
    mean: Tensor = (target - answer).mean((2, 3)).square().mean(1)
    assert torch.allclose(loss, mean * weight, rtol=1e-3)
    assert sample_losses(here.trainer, [replace(sample, hold=0.0)]).item() > 2 * loss.item()
    loss.sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in here.trainer.adapters.matrices().values()), "it learns"
