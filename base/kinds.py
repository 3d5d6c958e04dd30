"""Training batches of the UNet: six kinds of pictures, each with its share of a batch, its captions and its noise."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from base.captions import ANYTHING, PLAIN, SETTLED, THREE_SETS, CaptionMix, vary_caption
from base.latent_cache import cached_latents
from base.latents import filtered_latents, further_latents, other_latents, palette_latents
from base.names import PLAINEST
from base.palettes import Labels


@dataclass(frozen=True)
class Kind:
    """Pictures that are taught alike."""

    latents: Tensor  # (N, 4, 16, 16)
    labels: Labels
    in_batch: int
    mix: CaptionMix
    noise: tuple[float, float] = (0.0, 1.0)  # the part of the noise schedule that they are shown in


def kinds_of(vae: AutoencoderKL, latents: Tensor, labels: Labels, work: Path) -> dict[str, Kind]:
    """32 pictures a batch; `latents` and `labels` are those of the three sets."""
    plain = [i for i, (_, style) in enumerate(labels) if style == PLAINEST]
    further, filtered, palettes, others = (
        cached_latents(make, vae, work) for make in (further_latents, filtered_latents, palette_latents, other_latents)
    )
    return {
        "as drawn": Kind(latents, labels, 14, THREE_SETS),
        "plain": Kind(latents[plain], [labels[i] for i in plain], 3, PLAIN),
        "of further sets": Kind(*further, 1, SETTLED),
        "filtered": Kind(*filtered, 1, SETTLED),
        "in palettes": Kind(*palettes, 10, SETTLED, (0.3, 1.0)),
        "of other things": Kind(*others, 3, ANYTHING, (0.0, 0.5)),
    }


def batch(kinds: dict[str, Kind], step: int, seed: int) -> tuple[Tensor, list[str], Tensor]:
    """(latents (32, 4, 16, 16), captions, parts of the noise schedule (32, 2)) of a step: a function of step and seed."""
    rng = random.Random(f"{seed} {step}")
    latents, captions, noise = [], [], []
    for kind in kinds.values():
        picked = _picked(step, kind.in_batch, len(kind.labels), seed)
        latents.append(kind.latents[picked])
        captions += [vary_caption(*kind.labels[i], rng, kind.mix) for i in picked]
        noise += [kind.noise] * kind.in_batch
    order = rng.sample(range(len(captions)), len(captions))  # noise levels are spread along the batch
    return torch.cat(latents)[order], [captions[i] for i in order], torch.tensor(noise)[order]


def _picked(step: int, count: int, total: int, seed: int) -> list[int]:
    """Indices of the step's pictures: every picture once a round, in a new order each round."""
    picked = []
    for i in range(step * count, (step + 1) * count):
        order = torch.Generator().manual_seed(seed + i // total)
        picked.append(int(torch.randperm(total, generator=order)[i % total]))
    return picked
