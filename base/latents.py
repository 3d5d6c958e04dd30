"""Encode the pictures of the shared names, exactly as drawn and never flipped: a flipped camel is another picture than
the one that all sets draw.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from base.augment import EDGE
from base.fetch import icons_of
from base.names import FURTHER_SETS, PLAINEST, TRAINING_SETS, shared_names
from base.palettes import Labels, any_palette, palette_pictures
from base.render import draw, draw_exact, on_white
from base.style_filters import filtered_pictures

MUCH_ALIKE = re.compile("skin-tone|flag|-(dark|medium|light)(-|$)")
"""Names of pictures that are there several times, or hardly differ."""


def named_icons(work: Path) -> tuple[list[str], dict[str, dict[str, dict]]]:
    """(names, set -> name -> icon) of what the base is taught."""
    icons = {word: icons_of(package, work) for word, package in TRAINING_SETS.items()}
    return shared_names(icons), icons


def further_icons(work: Path) -> dict[str, dict[str, dict]]:
    """Set -> name -> icon of the further sets, which lack some of the names."""
    return {word: icons_of(package, work) for word, package in FURTHER_SETS.items()}


def as_input(pictures: np.ndarray) -> Tensor:
    """uint8 RGB (N, h, w, 3) -> float (N, 3, h, w) in -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: np.ndarray) -> Tensor:
    """Posterior means (N, 4, 16, 16) of uint8 RGB pictures (N, 64, 64, 3)."""
    return torch.cat([vae.encode(part).latent_dist.mean for part in as_input(pictures).split(32)])


def training_latents(vae: AutoencoderKL, work: Path) -> tuple[Tensor, Labels]:
    """(latents (M, 4, 16, 16), the (name, style) of each)."""
    names, icons = named_icons(work)
    latents, labels = [], []
    for style in TRAINING_SETS:
        latents.append(encode(vae, draw_exact(icons[style], names, EDGE)))
        labels += [(name, style) for name in names]
    return torch.cat(latents), labels


def filtered_latents(vae: AutoencoderKL, work: Path) -> tuple[Tensor, Labels]:
    """(latents (K, 4, 16, 16), the (name, style) of each) of the further styles."""
    names, icons = named_icons(work)
    pictures, labels = filtered_pictures(icons, names)
    return encode(vae, pictures), labels


def further_latents(vae: AutoencoderKL, work: Path) -> tuple[Tensor, Labels]:
    """(latents (K, 4, 16, 16), the (name, style) of each) of the further sets, exactly as drawn."""
    names, _ = named_icons(work)
    icons = further_icons(work)
    labels = [(name, style) for style, theirs in icons.items() for name in names if name in theirs]
    return encode(vae, on_white(np.stack([draw(icons[s][n], EDGE) for n, s in labels]))), labels


def palette_latents(vae: AutoencoderKL, work: Path) -> tuple[Tensor, Labels]:
    """(latents (K, 4, 16, 16), the (name, style) of each) of all palettes."""
    names, icons = named_icons(work)
    pictures, labels = palette_pictures(icons[PLAINEST], names)
    return encode(vae, pictures), labels


def other_latents(vae: AutoencoderKL, work: Path) -> tuple[Tensor, Labels]:
    """(latents (K, 4, 16, 16), the (name, style) of each) of what else all sets draw, half of it in some palette."""
    taught, icons = named_icons(work)
    pictures, labels = [], []
    for style, theirs in (icons | further_icons(work)).items():
        for name in sorted(theirs.keys() - set(taught)):
            if MUCH_ALIKE.search(name) or "<filter" in theirs[name]["body"]:
                continue  # the filters: resvg 0.48 reads out of bounds in some
            pictures.append(any_palette(draw(theirs[name], EDGE), style, name))
            labels.append((name, style))
    return encode(vae, np.stack(pictures)), labels


@torch.no_grad()
def normalise(vae: AutoencoderKL, latents: Tensor) -> None:
    """Fold mean and deviation of each latent channel into the VAE's two 1 x 1 convolutions.

    Afterwards latents are about N(0, 1) in each channel and `scaling_factor` is 1, exactly, for every user of the VAE.
    """
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    inner, outer = vae.quant_conv, vae.post_quant_conv
    outer.bias += outer.weight[:, :, 0, 0] @ mean
    outer.weight *= std.view(1, -1, 1, 1)
    inner.weight[:4] /= std.view(-1, 1, 1, 1)
    inner.bias[:4] = (inner.bias[:4] - mean) / std
    inner.bias[4:] -= 2 * std.log()
    vae.register_to_config(scaling_factor=1.0)
