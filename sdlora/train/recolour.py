"""Pictures in colours that are not theirs: what a LoRA is shown under noise so that it learns to bring its own colours back.

A drawing begins as the base would draw it, in the base's colours. Training only ever shows how the right picture looks under noise, so a
LoRA learns to trust the colours that it sees, and they stay (exposure bias; arXiv 2301.11706 answers it by disturbing what is shown
and not what is asked for). Here the disturbance is what differs between styles, colour, and never shape.
"""

from __future__ import annotations

import torch
from torch import Tensor

CLEAR = 5.0  # the signal-to-noise ratio from which on colours are settled
LEAST = 0.4  # of the way to a random colour that a corner of the colour cube goes; the most is all of it


def recoloured(pixels: Tensor, g: torch.Generator) -> Tensor:
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
