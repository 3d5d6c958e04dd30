"""The bundled base and its recipe: the folder loads and draws, is small, and never saw the judging sets."""

from __future__ import annotations

import itertools
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from base.average import TRAINED, write_average
from base.captions import ANYTHING, PLAIN, SETTLED, THREE_SETS, full_caption, vary_caption
from base.filters import recolour
from base.kinds import Kind, _picked, batch
from base.latent_cache import cached_latents
from base.muon import orthogonal
from base.names import FURTHER_SETS, JUDGING_SETS, NAMES, TRAINING_SETS
from base.palettes import WORDS as PALETTES
from base.palettes import corners, in_palette, inks, palette_pictures, untaught
from base.render import draw, on_white
from base.style_filters import STYLES as FILTERED
from base.style_filters import filtered_picture, names_for
from base.tokenizer import POSITIONS, learn_tokenizer

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "sdlora" / "bundled"
EMOJI = BUNDLED / "emoji"
LIMIT = 45_000_000
BODY = '<circle cx="16" cy="16" r="14" fill="#d33"/><path d="M8 18h16v4H8z" fill="#fff"/><path d="M9 9h4v4H9z"/>'

needs_base = pytest.mark.skipif(not (EMOJI / "model_index.json").exists(), reason="no bundled base in this checkout")


def test_captions_vary_and_keep_their_form() -> None:
    rng = random.Random(0)
    labels = {vary_caption("red-apple", "noto", rng, THREE_SETS) for _ in range(400)}
    assert labels == {"", "noto style", "red apple, noto style"}
    plain = {vary_caption("red-apple", "noto", rng, PLAIN) for _ in range(100)}
    made_up = plain - {"red apple"}
    assert all(re.fullmatch(r"red apple, [a-z]{4,9} style", text) for text in made_up)
    assert 50 < len(made_up) < len(plain)
    settled = {vary_caption("red-apple", "ink", rng, SETTLED) for _ in range(300)}
    assert settled == {"", "red apple, ink style"}
    assert full_caption("t-rex", "fluent") == "t rex, fluent style"


def test_every_treated_style_looks_different_and_is_shown_on_half_of_the_names() -> None:
    icon = {"body": BODY, "left": 0, "top": 0, "width": 32, "height": 32}
    pictures = {word: filtered_picture(icon, style) for word, style in FILTERED.items()}
    pictures["as it is"] = on_white(draw(icon, 64))
    for one, other in itertools.combinations(pictures, 2):
        assert np.abs(pictures[one].astype(int) - pictures[other]).mean() > 1, (one, other)
    for word in FILTERED:
        assert 0.35 < len(names_for(word, NAMES)) / len(NAMES) < 0.65
        assert names_for(word, NAMES) == names_for(word, NAMES)
    assert "blueprint" not in FILTERED  # the demo's style stays unseen
    assert {style.source for style in FILTERED.values()} == set(TRAINING_SETS)


def test_palettes_move_every_colour_and_leave_the_drawing() -> None:
    cube = np.stack(np.meshgrid(*[[0.0, 1.0]] * 3, indexing="ij"), -1)
    colours = np.random.default_rng(0).random((5, 7, 3))
    assert np.allclose(recolour(colours, cube), colours)
    assert np.allclose(recolour(cube[0], corners("harbor")), corners("harbor")[0])
    icon = {"body": BODY, "left": 0, "top": 0, "width": 32, "height": 32}
    drawn = draw(icon, 64)
    pictures = {word: in_palette(drawn, word) for word in PALETTES}
    few = {word: picture[::4, ::4].astype(int) for word, picture in pictures.items()}  # 7,000 comparisons
    for one, other in itertools.combinations(few, 2):
        assert np.abs(few[one] - few[other]).mean() > 0.5, (one, other)
    for word in PALETTES:
        inside = pictures[word][drawn[..., 3] == 255].reshape(-1, 3)
        assert inks(word) is None or len(np.unique(inside, axis=0)) <= len(inks(word))
    names = NAMES[:24]
    pictures, labels = palette_pictures(dict.fromkeys(names, icon), names)
    assert 0.28 < len(labels) / (len(PALETTES) * len(names)) < 0.38
    assert {word for _, word in labels} == set(PALETTES)
    assert len(pictures) == len(labels) == len(set(labels))
    assert [word for _, word in untaught(names)] == PALETTES
    assert not set(untaught(names)) & set(labels)


@needs_base
def test_latents_are_drawn_once_for_the_same_encoder(tmp_path: Path) -> None:
    from base.export import load_vae

    drawn = []

    def some_latents(vae: object, work: Path) -> tuple[torch.Tensor, list[tuple[str, str]]]:
        drawn.append(work)
        return torch.full((2, 4, 16, 16), float(len(drawn))), [("ant", "noto"), ("bus", "noto")]

    vae = load_vae(EMOJI)
    first, again = cached_latents(some_latents, vae, tmp_path), cached_latents(some_latents, vae, tmp_path)
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1] == [("ant", "noto"), ("bus", "noto")]
    assert len(drawn) == 1
    with torch.no_grad():
        vae.quant_conv.bias += 1
    assert torch.equal(cached_latents(some_latents, vae, tmp_path)[0], torch.full((2, 4, 16, 16), 2.0))


@needs_base
def test_an_exported_base_can_be_trained_on_from(tmp_path: Path) -> None:
    from base.export import export, load_exported, load_vae
    from base.tokenizer import VOCABULARY
    from base.unet import Denoiser

    denoiser = Denoiser(VOCABULARY)
    load_exported(denoiser, EMOJI)
    export(load_vae(EMOJI), denoiser, EMOJI / "tokenizer", tmp_path / "again")
    for part in ("unet/diffusion_pytorch_model", "text_encoder/model", "vae/diffusion_pytorch_model"):
        first, again = (load_file(folder / f"{part}.safetensors") for folder in (EMOJI, tmp_path / "again"))
        assert first.keys() == again.keys()
        assert all(torch.equal(first[name], again[name]) for name in first), part


def test_the_base_half_way_between_two(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    for folder, value, layer in ((one, 1.0, "a"), (two, 4.0, "a"), (other, 4.0, "b")):
        for name in TRAINED:
            (folder / name).parent.mkdir(parents=True)
            save_file({layer: torch.full((2,), value).half()}, folder / name)
    (one / "model_index.json").write_text("{}")
    write_average(one, two, tmp_path / "middle")
    assert (tmp_path / "middle" / "model_index.json").read_text() == "{}"
    for name in TRAINED:
        mean = load_file(tmp_path / "middle" / name)["a"]
        assert mean.dtype == torch.float16
        assert mean.tolist() == [2.5, 2.5]
    with pytest.raises(SystemExit, match="do not have the same layers"):
        write_average(one, other, tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_batch_follows_from_its_step_and_holds_every_kind() -> None:
    def pictures(value: float, count: int) -> tuple[torch.Tensor, list[tuple[str, str]]]:
        return torch.full((count, 4, 16, 16), value), [(f"name-{i}", "noto") for i in range(count)]

    kinds = {"one": Kind(*pictures(1, 5), 3, SETTLED), "two": Kind(*pictures(2, 7), 4, ANYTHING, (0.0, 0.5))}
    (latents, captions, part), again = batch(kinds, 3, 1), batch(kinds, 3, 1)
    assert torch.equal(latents, again[0])
    assert captions == again[1]
    one = latents[:, 0, 0, 0] == 1
    assert int(one.sum()) == 3
    assert torch.equal(part, torch.stack([torch.zeros(7), torch.where(one, 1.0, 0.5)], 1))
    assert batch(kinds, 4, 1)[1] != captions
    indices = [n for step in range(7) for n in _picked(step, 5, 7, 1)]
    assert all(sorted(indices[i : i + 7]) == list(range(7)) for i in range(0, 35, 7))  # every picture once a round


@pytest.mark.parametrize("shape", [(3, 8, 72), (3, 72, 8), (2, 16, 16)])
def test_muon_keeps_directions_and_makes_all_of_them_alike(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    updates = orthogonal(matrices)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    lengths = u.mT @ updates @ v.mT
    assert (lengths.diagonal(dim1=1, dim2=2) - 1).abs().max() < 0.35  # the five steps leave them in 0.7 to 1.2
    assert (lengths - torch.diag_embed(lengths.diagonal(dim1=1, dim2=2))).abs().max() < 1e-3


def test_tokenizer_gives_back_what_it_was_given(tmp_path: Path) -> None:
    learn_tokenizer([full_caption(name, style) for name in NAMES for style in TRAINING_SETS], tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    for text in ("red apple, noto style", "zebra, fxemoji style", "naïve 東京 42"):
        ids = tokenizer(text).input_ids
        assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
        assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")
    assert tokenizer.model_max_length == POSITIONS
    assert len(tokenizer("apple " * 100, truncation=True).input_ids) == POSITIONS


def test_judging_sets_are_not_trained_on() -> None:
    taught = TRAINING_SETS | FURTHER_SETS
    assert not {*taught, *taught.values()} & {*JUDGING_SETS, *JUDGING_SETS.values()}
    words = [*taught, *FILTERED, *PALETTES]
    assert len(set(words)) == len(words)
    for trains in (
        "build",
        "dataset",
        "latents",
        "vae",
        "unet",
        "training",
        "augment",
        "synthetic",
        "captions",
        "style_filters",
        "filters",
        "palettes",
        "kinds",
    ):
        source = (ROOT / "base" / f"{trains}.py").read_text(encoding="utf-8").lower()
        assert not [word for word in ("fxemoji", "openmoji", "judging") if word in source], trains


def test_states_are_replaced_whole(tmp_path: Path) -> None:
    from base.state import load_state, save_state

    path = tmp_path / "unet" / "stable.safetensors"
    for step in (1, 2):
        save_state(path, {"w": torch.full((3,), float(step))}, {"step": step})
    tensors, facts = load_state(path)
    assert facts == {"step": 2}
    assert tensors["w"].tolist() == [2.0, 2.0, 2.0]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_folding_the_mean_keeps_pictures_and_normalises_latents() -> None:
    from base.latents import normalise
    from base.vae import new_vae, reconstruct

    vae, x = new_vae().eval(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        latents, before = vae.encode(x).latent_dist.mean, reconstruct(vae, x)
        normalise(vae, latents)
        after = vae.encode(x).latent_dist.mean
    assert torch.allclose(before, reconstruct(vae, x), atol=1e-4)
    assert torch.allclose(after.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(after.std((0, 2, 3)), torch.ones(4), atol=1e-3)


@needs_base
def test_bundled_base_is_small_and_has_clip_layout() -> None:
    assert sum(p.stat().st_size for p in EMOJI.rglob("*") if p.is_file()) <= LIMIT
    config = json.loads((EMOJI / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    tokenizer = CLIPTokenizer.from_pretrained(EMOJI / "tokenizer")
    assert config["max_position_embeddings"] == tokenizer.model_max_length
    assert config["vocab_size"] == len(tokenizer)


@needs_base
def test_bundled_base_draws() -> None:
    from base.sampling import pipeline, sample

    pipe = pipeline(EMOJI)
    assert pipe.vae_scale_factor == 4
    picture = sample(pipe, ["red apple, noto style"])[0]
    assert (picture.shape, picture.dtype) == ((64, 64, 3), np.uint8)
    assert picture.std() > 5  # something is there


@needs_base
def test_bundled_text_encoder_keys_are_the_published_ones() -> None:
    from safetensors import safe_open

    with safe_open(EMOJI / "text_encoder" / "model.safetensors", framework="pt") as file:
        assert all(key.startswith("text_model.") for key in file.keys())  # noqa: SIM118  (not a dict)


def test_demo_pictures_are_small_and_captioned() -> None:
    folder = BUNDLED / "pictures"
    if not folder.exists():
        pytest.skip("no bundled pictures in this checkout")
    pictures = sorted(folder.glob("*.png"))
    assert len(pictures) == 24
    assert sum(p.stat().st_size for p in pictures) < 400_000
    for path in pictures:
        assert path.with_suffix(".txt").read_text(encoding="utf-8").strip().endswith(", blueprint style")
