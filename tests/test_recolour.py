"""Colour augmentation: noise is added to other colours, the target stays the right ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sdlora.families.objective import DiffusionObjective
from sdlora.models.bases import resolve_base
from sdlora.models.load import load_base
from sdlora.train.colour_augmentation import MAX_SNR, equivalent_noise, recolour
from sdlora.train.latents import COLOURINGS, CaptionedImage, Encoder, LatentCache
from sdlora.train.setup import encode, load, prepare
from tests.conftest import draw_pictures
from tests.test_train import Trained

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def test_colours_change_and_shapes_stay() -> None:
    pixels = torch.ones(3, 8, 8)
    pixels[:, 2:5, 2:5] = torch.tensor([1.0, -1, -1])[:, None, None]
    pixels[:, 5:7, 2:5] = torch.tensor([-1.0, -0.5, 1])[:, None, None]
    other = recolour(pixels, torch.Generator().manual_seed(0))
    assert other.min() >= -1
    assert other.max() <= 1
    assert torch.equal(other[:, 0], pixels[:, 0]), "white stays"
    red, blue = other[:, 2:5, 2:5].flatten(1), other[:, 5:7, 2:5].flatten(1)
    assert torch.equal(red, red[:, :1].expand_as(red)), "one colour stays one colour"
    assert torch.equal(blue, blue[:, :1].expand_as(blue))
    assert (red[:, 0] - pixels[:, 2, 2]).abs().max() > 0.2
    assert (red[:, 0] - blue[:, 0]).abs().max() > 0.1


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_target_leads_to_the_right_picture(prediction: str) -> None:
    """From x_t, made of other colours, and the exact answer a sampler reads x_0 in the right ones."""
    objective = DiffusionObjective.of(SCHEDULE, prediction)
    x_0, shown, noise = torch.randn(3, 2, 4, 8, 8).unbind()
    t = torch.tensor([300, 900])
    between = equivalent_noise(objective, shown, x_0, noise, t)
    x_t, answer = objective.add_noise(x_0, between, t), objective.target(x_0, between, t)
    assert torch.allclose(x_t, objective.add_noise(shown, noise, t), atol=1e-5)
    a = objective.alphas_cumprod[t].view(-1, 1, 1, 1)
    if prediction == "epsilon":
        read = (x_t - (1 - a).sqrt() * answer) / a.sqrt()
    else:
        read = a.sqrt() * x_t - (1 - a).sqrt() * answer
    assert torch.allclose(read, x_0, atol=1e-4)


def test_other_colours_are_made_only_where_they_are_wanted_and_alike_each_time(tiny_base: Path, tmp_path: Path) -> None:
    (file,) = draw_pictures(tmp_path / "pictures", 1).glob("*.png")
    vae = load_base(resolve_base(str(tiny_base)), "fp32").vae
    cache = LatentCache(tmp_path / "cache", "vae")

    def made(mirrored: bool, wanted: bool) -> list[torch.Tensor | None]:
        encoder = Encoder(vae, cache, mirrored, recolour=wanted)
        latent = encoder.latent(CaptionedImage(file, file.name, 32, 32, "disc"), (32, 32))
        return [latent.plain, latent.flipped, latent.recoloured, latent.flipped_recoloured]

    assert made(mirrored=False, wanted=False)[1:] == [None] * 3
    plain, flipped, ways, flipped_ways = made(mirrored=True, wanted=True)
    assert plain is not None
    assert flipped is not None
    assert ways is not None
    assert flipped_ways is not None
    assert ways.shape == flipped_ways.shape == (COLOURINGS, *plain.shape)
    assert not torch.equal(ways[0], ways[1])
    assert not torch.equal(ways[0], plain)
    again = made(mirrored=True, wanted=True)
    assert all(
        torch.equal(a, b)
        for a, b in zip(again, [plain, flipped, ways, flipped_ways], strict=True)
        if a is not None and b is not None
    )
    assert made(mirrored=False, wanted=True)[1::2] == [None, None]


def test_held_out_pictures_are_recoloured_as_in_training(tiny_base: Path, tmp_path: Path) -> None:
    job = Trained(tmp_path, tiny_base, **{"data.recolour": 1.0, "data.held_out": 0.2})
    base = load(job.request)
    run = prepare(job.request, base, encode(job.request, base, job.folders), job.folders, job.events.append)
    assert run.evaluator is not None
    asked = [sample for samples in run.evaluator.samples for sample in samples]
    open_ones = [run.trainer.objective.snr(torch.tensor(s.draw.timestep)) <= MAX_SNR for s in asked]
    assert [s.noisy_source is not None for s in asked] == open_ones
    assert {True, False} == {bool(o) for o in open_ones}
