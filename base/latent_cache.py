"""Latents that take minutes to draw: kept in the work folder until the drawing code or the encoder has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from diffusers import AutoencoderKL
from torch import Tensor

from base.palettes import Labels
from base.state import load_state, save_state

DRAWING = ("augment", "filters", "latents", "names", "palettes", "render", "style_filters")
"""The modules whose text decides what is drawn."""


def cached_latents(
    make: Callable[[AutoencoderKL, Path], tuple[Tensor, Labels]], vae: AutoencoderKL, work: Path
) -> tuple[Tensor, Labels]:
    """What `make(vae, work)` gives: (latents (N, 4, 16, 16), the (name, style) of each)."""
    path = work / "latents" / f"{make.__name__}-{_recipe(vae)}.safetensors"
    if path.exists():
        tensors, facts = load_state(path)
        return tensors["latents"], [(name, style) for name, style in facts["labels"]]
    latents, labels = make(vae, work)
    save_state(path, {"latents": latents}, {"labels": labels})
    return latents, labels


def _recipe(vae: AutoencoderKL) -> str:
    """The same for the same drawing code and the same encoder."""
    seen = hashlib.sha256()
    for name in DRAWING:
        seen.update((Path(__file__).parent / f"{name}.py").read_bytes())
    for weights in vae.state_dict().values():
        seen.update(weights.contiguous().numpy().tobytes())
    return seen.hexdigest()[:16]
