"""Latents on disk: made once, and not for what is never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sdlora.models.bases import resolve_base
from sdlora.models.load import load_base
from sdlora.train import latents
from sdlora.train.latents import Cache, CaptionedImage, Encoder, Latents
from tests.conftest import draw_pictures


def test_mirrored_pictures_are_encoded_only_where_they_are_shown(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(draw_pictures(tmp_path / "pictures", 2).glob("*.png"))
    pictures = [CaptionedImage(file, file.name, 32, 32, file.stem) for file in files]
    base, encoded = load_base(resolve_base(str(tiny_base)), "fp32"), []
    encode = latents.encode

    def counted(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
        encoded.append(pixels)
        return encode(vae, pixels)

    def made(mirrored: bool) -> Latents:
        encoded.clear()
        found = Encoder(base.vae, pictures, [(32, 32)] * 2, Cache(tmp_path / "cache", "vae"), mirrored).latents()
        assert not encoded, "nobody has asked for one"
        assert found.shapes == [tuple(x.plain.shape) for x in found]
        return found

    monkeypatch.setattr(latents, "encode", counted)
    plain = made(mirrored=False)
    assert len(encoded) == 2
    assert all(latent.flipped is None for latent in plain)
    both = made(mirrored=True)
    assert len(encoded) == 2, "what was there already is not made again"
    assert all(torch.equal(a.plain, b.plain) for a, b in zip(plain, both, strict=True))
    assert all(b.flipped is not None and not torch.equal(b.plain, b.flipped) for b in both)
    assert len(list(made(mirrored=True))) == 2
    assert not encoded
    assert made(mirrored=False)[0].flipped is None


def test_the_rest_is_foretold_from_what_was_made(tiny_base: Path, tmp_path: Path) -> None:
    files = sorted(draw_pictures(tmp_path / "pictures", 4).glob("*.png"))
    pictures = [CaptionedImage(file, file.name, 32, 32, file.stem) for file in files]
    vae = load_base(resolve_base(str(tiny_base)), "fp32").vae
    encoder = Encoder(vae, pictures, [(32, 32)] * 4, Cache(tmp_path / "cache", "vae"))
    found = encoder.latents()
    assert found.left() == 0, "no pace yet"
    assert found[2].plain is found.some([3, 2])[1].plain
    (taken,) = encoder._taken
    assert found.left() == pytest.approx(3 * taken)
    list(found)
    assert found.left() == 0
