"""Self-distillation at high noise: the target is drawn towards the base's own prediction, in the picture's colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sdlora.families.objective import DiffusionObjective
from sdlora.train.batches import Sample, loss_per_sample, sample_losses
from sdlora.train.colour_augmentation import match_colours, structure_weight
from sdlora.train.loop import backward
from sdlora.train.rng import draw
from sdlora.train.setup import Run
from tests.families import ready

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ALONE = {"train.text_encoder_lr": 0.0, "data.flip": False, "data.caption_dropout": 0.0}


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


def asked(run: Run, timestep: int, distill_weight: float) -> Sample:
    item = run.trainer.items[0]
    latent = item.latent()
    d = replace(draw(3, tuple(latent.plain.shape), 1000, 0), timestep=timestep)
    return Sample(latent.plain, latent.sizes, item.caption, d, distill_weight=distill_weight)


def test_composition_is_distilled_where_noise_hides_the_rest() -> None:
    objective = DiffusionObjective.of(SCHEDULE, "epsilon")
    assert [round(structure_weight(objective, t), 3) for t in (0, 600, 700, 800, 999)] == [0, 0, 0.5, 1, 1]


def test_the_same_shapes_take_the_pictures_colours() -> None:
    """A white ground that became blue, a dark figure that became white."""
    g = torch.Generator().manual_seed(0)
    figure = (torch.rand(1, 1, 16, 16, generator=g) < 0.3).float()
    shapes = 1 - figure * torch.tensor([1.5, 1.8, 1.0, 0.2]).view(1, 4, 1, 1)
    x_0 = torch.tensor([-1.0, 0.3, 0.8, 0.1]).view(1, 4, 1, 1) + figure * torch.tensor([2.0, 1, -1, 0.4]).view(
        1, 4, 1, 1
    )
    assert (match_colours(x_0, shapes) - x_0).abs().max() < 0.1
    assert torch.allclose(match_colours(x_0, shapes).mean((2, 3)), x_0.mean((2, 3)), atol=1e-5)


def test_other_shapes_give_their_average_colour_only() -> None:
    x_0, shapes = torch.randn(2, 1, 4, 16, 16, generator=torch.Generator().manual_seed(0)).unbind()
    only_mean = shapes + (x_0 - shapes).mean((2, 3), keepdim=True) * torch.ones_like(shapes)
    done = match_colours(x_0, shapes)
    assert torch.allclose(done.mean((2, 3)), x_0.mean((2, 3)), atol=1e-5)
    # noise beside noise is half explained (by going to nothing), and a half squared is a quarter
    assert (done - only_mean).square().mean() < 0.1 * (x_0 - shapes).square().mean()
    flat = match_colours(x_0, torch.zeros_like(shapes))
    assert torch.allclose(flat, x_0.mean((2, 3), keepdim=True).expand_as(flat), atol=1e-5), "a guess without shapes"


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_target_for_x0_is_the_inverse_of_predict_x0(prediction: str) -> None:
    objective = DiffusionObjective.of(SCHEDULE, prediction)
    x_0, other, noise = torch.randn(3, 2, 4, 8, 8).unbind()
    t = torch.tensor([300, 900])
    x_t = objective.add_noise(x_0, noise, t)
    assert torch.allclose(objective.predict_x0(x_t, objective.target(x_0, noise, t), t), x_0, atol=1e-3)
    assert torch.allclose(objective.predict_x0(x_t, objective.target_for_x0(other, x_t, t), t), other, atol=1e-3)


@pytest.mark.parametrize("family", ["sd1", "sd2"])  # noise and velocity
def test_an_untrained_lora_is_off_by_colour_alone(layouts: Path, tmp_path: Path, family: str) -> None:
    """It answers as the base does: its loss is what the colours of the picture change in that answer."""
    run = ready(family, layouts, tmp_path, **ALONE)
    t, objective, sample = torch.tensor([900]), run.trainer.objective, asked(run, 900, 1.0)
    x_0, noise = sample.x_0[None], sample.draw.noise[None]
    x_t = objective.add_noise(x_0, noise, t)
    assert run.trainer.text_cache is not None
    states = run.trainer.text_cache[sample.caption].tensors["prompt_embeds"][None]
    with torch.no_grad():
        answer = run.trainer.base.denoiser(x_t, t, encoder_hidden_states=states, return_dict=False)[0]
    wanted = objective.target_for_x0(match_colours(x_0, objective.predict_x0(x_t, answer, t)), x_t, t)
    weight = objective.weight(t, run.trainer.settings.train.min_snr_gamma)
    loss = sample_losses(run.trainer, [sample])
    assert torch.allclose(loss, loss_per_sample(answer, wanted) * weight, rtol=1e-3)
    assert sample_losses(run.trainer, [replace(sample, distill_weight=0.0)]).item() != loss.item()
    loss.sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in run.trainer.adapters.named_parameters().values()), (
        "it learns"
    )


def test_micro_batches_give_the_same_gradient(layouts: Path, tmp_path: Path) -> None:
    """Some rows of a batch are distilled, all have dropout: in one or two micro-batches, the gradient is the same."""
    changes = {**ALONE, "data.recolour": 1.0, "lora.dropout": 0.3, "train.batch_size": 4, "data.buckets": False}
    found = []
    for pieces in (1, 2):
        run = ready("sd1", layouts, tmp_path / str(pieces), **changes)
        held = [
            structure_weight(run.trainer.objective, draw(k, (4, 8, 8), 1000, run.trainer.settings.train.seed).timestep)
            for k in range(4)
        ]
        assert 0 < sum(h > 0 for h in held) < 4
        run.trainer.micro_batches = pieces
        backward(run.trainer, 0, [[0, 1, 0, 1]])
        found.append(
            {n: p.grad.clone() for n, p in run.trainer.adapters.named_parameters().items() if p.grad is not None}
        )
    assert found[0]
    for name, one in found[0].items():
        torch.testing.assert_close(one, found[1][name], rtol=1e-3, atol=1e-6)
