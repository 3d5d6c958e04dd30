"""Tags of a caption in other orders, so that no place in the sentence counts for more; few enough to be encoded once and kept."""

from __future__ import annotations

import hashlib

import torch

from sdlora.config import Config
from sdlora.train.rng import generator

ORDERS = 8  # of each caption


def tag_orders(caption: str, settings: Config) -> list[str]:
    """The caption as it may be shown: itself, or with shuffling up to `ORDERS` orders of the tags after the first `keep_tokens`."""
    tags = [tag.strip() for tag in caption.split(",") if tag.strip()]
    kept = settings.data.keep_tokens
    if not settings.data.shuffle or len(tags) - kept < 2:
        return [caption]
    number = int.from_bytes(hashlib.blake2b(caption.encode(), digest_size=6).digest(), "big")
    found = []
    for k in range(ORDERS):
        order = torch.randperm(len(tags) - kept, generator=generator(settings.train.seed, "tags", number, k)).tolist()
        found.append(", ".join([*tags[:kept], *(tags[kept + i] for i in order)]))
    return list(dict.fromkeys(found))


def pick_caption(caption: str, draw: float, settings: Config) -> str:
    """The order that a uniform draw in [0, 1) chooses."""
    choices = tag_orders(caption, settings)
    return choices[int(draw * len(choices))]
