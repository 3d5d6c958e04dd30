"""Pictures in colours that are not theirs: what a LoRA is shown under noise so that it learns to bring its own colours back.

A drawing begins as the base would draw it, in the base's colours. Training only ever shows how the right picture looks under noise, so a
LoRA learns to trust the colours that it sees, and they stay (exposure bias; arXiv 2301.11706 answers it by disturbing what is shown
and not what is asked for). Here the disturbance is what differs between styles, colour, and never shape.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_SNR = 5.0  # the signal-to-noise ratio from which on colours are settled
RIDGE = 0.02  # of a latent's variance: keeps the fit of one colour to another from exploding where a guess is all one colour
LEAST = 0.4  # of the way to a random colour that a corner of the colour cube goes; the most is all of it


def recolour(pixels: Tensor, g: torch.Generator) -> Tensor:
    """Pixels (3, h, w) in [-1, 1] with the corners of the colour cube moved, and every colour between them along with them. White stays:
    it is the ground of most drawings, and would give away that colours were moved."""
    cube = torch.stack(torch.meshgrid(*[torch.tensor([0.0, 1.0])] * 3, indexing="ij"), dim=-1)
    share = LEAST + (1 - LEAST) * torch.rand(2, 2, 2, 1, generator=g)
    share[1, 1, 1] = 0
    corners = torch.lerp(cube, torch.rand(2, 2, 2, 3, generator=g), share)
    done = corners[..., None, None]  # (red, green, blue, 3, 1, 1)
    for part in (pixels + 1) / 2:  # the first of the cube's axes that is left goes
        done = torch.lerp(done[0], done[1], part)
    return done * 2 - 1


def match_colours(x_0: Tensor, shapes: Tensor) -> Tensor:
    """`shapes`, the base's guess of a picture, in the colours of the picture x_0, both (B, C, h, w): each channel's mean becomes the picture's, and
    the rest is mapped linearly as least squares fit it, times the fit's R² squared. Where both have the same shapes the fit finds what became
    of each colour, a white ground that is blue now; where they differ it would only wash the guess out, and explains little."""
    guess, off = shapes.flatten(2), (x_0 - shapes).flatten(2)
    mean = off.mean(2, keepdim=True)
    guess, off = guess - guess.mean(2, keepdim=True), off - mean
    even = RIDGE * torch.eye(guess.shape[1])
    map_ = torch.linalg.solve(guess @ guess.mT / guess.shape[2] + even, guess @ off.mT / guess.shape[2])
    fitted = map_.mT @ guess
    explained = 1 - (off - fitted).square().sum((1, 2), keepdim=True) / off.square().sum((1, 2), keepdim=True).clamp(
        min=1e-9
    )
    return shapes + (mean + explained.clamp(0, 1) ** 2 * fitted).view_as(shapes)
