"""Colour augmentation (`data.recolour`): noise is added to a recoloured picture while its right colours stay the target.

A drawing starts as the base would draw it, in the base's colours. Training only ever shows how the right picture looks under
noise, so a LoRA learns to trust the colours it sees, and they stay (exposure bias; arXiv 2301.11706 answers it by disturbing the
input and not the target). Here the disturbance is what differs between styles, colour, and never shape.

Where noise hides all but composition, the target is drawn towards what the base itself predicts, in the picture's colours:
self-distillation, so that the base's compositions are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sdlora.families.objective import Objective

MAX_SNR = 5.0  # the signal-to-noise ratio from which on colours are settled
RIDGE = 0.02  # of a latent's variance: keeps the fit of one colour to another from exploding where a guess is all one colour
MIN_BLEND = 0.4  # of the way to a random colour that a corner of the colour cube moves; the most is all of it


def recolour(pixels: Tensor, g: torch.Generator) -> Tensor:
    """Pixels (3, h, w) in [-1, 1] with the corners of the RGB cube moved at random, and every colour between them along with them.

    White stays: it is the background of most drawings, and would give away that colours were moved.
    """
    cube = torch.stack(torch.meshgrid(*[torch.tensor([0.0, 1.0])] * 3, indexing="ij"), dim=-1)
    blend = MIN_BLEND + (1 - MIN_BLEND) * torch.rand(2, 2, 2, 1, generator=g)
    blend[1, 1, 1] = 0
    corners = torch.lerp(cube, torch.rand(2, 2, 2, 3, generator=g), blend)
    result = corners[..., None, None]  # (red, green, blue, 3, 1, 1)
    for channel in (
        pixels + 1
    ) / 2:  # trilinear interpolation: each channel takes the first of the cube's remaining axes
        result = torch.lerp(result[0], result[1], channel)
    return result * 2 - 1


def pick_recoloured(
    objective: Objective, variants: Tensor | None, timestep: int, probability: float, g: torch.Generator
) -> Tensor | None:
    """One of `variants` (K, C, h, w) with `probability` where noise of this level leaves colours open, else None."""
    if variants is None or objective.snr(torch.tensor(timestep)) > MAX_SNR:
        return None
    chance, variant = torch.rand(2, generator=g).tolist()
    return variants[int(variant * len(variants))] if chance < probability else None


def recoloured_noise(
    objective: Objective, x_0: Tensor, noise: Tensor, t: Tensor, sources: Sequence[Tensor | None]
) -> tuple[Tensor, Tensor]:
    """The noise (B, C, h, w) that makes of x_0 what `noise` makes of each sample's noisy source, and a factor on the loss (B,).

    Samples without a source keep their noise, and have a factor of 1.
    """
    recoloured = torch.tensor([source is not None for source in sources])
    if not recoloured.any():
        return noise, torch.ones(len(t))
    seen = torch.stack([own if source is None else source for own, source in zip(x_0, sources, strict=True)])
    factor = torch.where(recoloured, recoloured_weight(objective, t), torch.ones(len(t)))
    return equivalent_noise(objective, seen, x_0, noise, t), factor


def equivalent_noise(objective: Objective, source: Tensor, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The noise that makes of x_0 what `noise` makes of `source` (B, C, h, w): a network that predicts it is asked for x_0."""
    return noise + objective.snr(t).sqrt().view(-1, 1, 1, 1) * (source - x_0)


def recoloured_weight(objective: Objective, t: Tensor) -> Tensor:
    """What the weight of a recoloured sample is multiplied by (B,): min(1, 1 / SNR). Its target grows with the SNR while its error
    in x_0 does not."""
    return (1 / objective.snr(t)).clamp(max=1)


def structure_weight(objective: Objective, t: int) -> float:
    """How far noise of level t hides all but composition: 0 up to six tenths of the levels, rising to 1 at eight tenths."""
    return min(max(5 * t / objective.timesteps - 3, 0.0), 1.0)


def distilled_target(
    objective: Objective,
    x_0: Tensor,
    x_t: Tensor,
    t: Tensor,
    target: Tensor,
    weights: Sequence[float],
    base_prediction: Callable[[list[int]], Tensor],
) -> Tensor:
    """The target (B, C, h, w) moved, by each sample's weight, towards what the base itself predicts, in the picture's colours.

    `base_prediction` is called with the rows whose weight is not 0, and answers as the denoiser does at strength 0.
    """
    rows = [row for row, weight in enumerate(weights) if weight]
    if not rows:
        return target
    guess = match_colours(x_0[rows], objective.predict_x0(x_t[rows], base_prediction(rows), t[rows]))
    teacher = objective.target_for_x0(guess, x_t[rows], t[rows]).to(target.device)
    share = torch.tensor([weights[row] for row in rows], device=target.device).view(-1, 1, 1, 1)
    return target.index_copy(0, torch.tensor(rows, device=target.device), torch.lerp(target[rows], teacher, share))


def match_colours(x_0: Tensor, shapes: Tensor) -> Tensor:
    """`shapes`, the base's guess of a picture, in the colours of the picture x_0, both (B, C, h, w).

    Each channel's mean becomes the picture's; the rest is mapped by ridge regression of the difference on the guess, weighted
    by the square of the fit's R². Where both have the same shapes the fit finds what became of each colour (a white background
    that is blue now); where they differ it would only wash the guess out, and explains little.
    """
    guess, difference = shapes.flatten(2), (x_0 - shapes).flatten(2)
    mean = difference.mean(2, keepdim=True)
    guess, difference = guess - guess.mean(2, keepdim=True), difference - mean
    ridge = RIDGE * torch.eye(guess.shape[1])
    pixels = guess.shape[2]
    mapping = torch.linalg.solve(guess @ guess.mT / pixels + ridge, guess @ difference.mT / pixels)
    fitted = mapping.mT @ guess
    residual = (difference - fitted).square().sum((1, 2), keepdim=True)
    r_squared = 1 - residual / difference.square().sum((1, 2), keepdim=True).clamp(min=1e-9)
    return shapes + (mean + r_squared.clamp(0, 1) ** 2 * fitted).view_as(shapes)
