"""Latents: made once, when they are first needed, and no more of them than are needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sdlora.models.bases import resolve_base
from sdlora.models.load import load_base
from sdlora.train import latents
from sdlora.train.latents import CaptionedImage, Encoder, Latent, LatentCache
from tests.conftest import draw_pictures


def test_flipped_pictures_are_encoded_only_where_flips_are_on(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(draw_pictures(tmp_path / "pictures", 2).glob("*.png"))
    images = [CaptionedImage(file, file.name, 32, 32, file.stem) for file in files]
    base, encoded = load_base(resolve_base(str(tiny_base)), "fp32"), []
    encode = latents.to_latents

    def counted(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
        encoded.append(pixels)
        return encode(vae, pixels)

    def made(flip: bool) -> list[Latent]:
        encoded.clear()
        encoder = Encoder(base.vae, LatentCache(tmp_path / "cache", "vae"), flip)
        items = [encoder.item(image, (32, 32)) for image in images]
        assert not encoded, "nobody has asked for one"
        found = [item.latent() for item in items]
        assert [item.shape for item in items] == [tuple(x.plain.shape) for x in found]
        return found

    monkeypatch.setattr(latents, "to_latents", counted)
    plain = made(flip=False)
    assert len(encoded) == 2
    assert all(latent.flipped is None for latent in plain)
    both = made(flip=True)
    assert len(encoded) == 2, "what was there already is not made again"
    assert all(torch.equal(a.plain, b.plain) for a, b in zip(plain, both, strict=True))
    assert all(b.flipped is not None and not torch.equal(b.plain, b.flipped) for b in both)
    assert len(made(flip=True)) == 2
    assert not encoded
    assert made(flip=False)[0].flipped is None


def test_the_time_left_is_estimated_from_what_was_made(tiny_base: Path, tmp_path: Path) -> None:
    files = sorted(draw_pictures(tmp_path / "pictures", 4).glob("*.png"))
    vae = load_base(resolve_base(str(tiny_base)), "fp32").vae
    encoder = Encoder(vae, LatentCache(tmp_path / "cache", "vae"))
    items = [encoder.item(CaptionedImage(file, file.name, 32, 32, file.stem), (32, 32)) for file in files]
    assert encoder.seconds_left(items) == 0, "no pace yet"
    assert items[2].latent().plain is items[2].latent().plain
    (seconds,) = encoder._seconds
    assert encoder.seconds_left(items) == pytest.approx(3 * seconds)
    for item in items:
        item.latent()
    assert encoder.seconds_left(items) == 0
