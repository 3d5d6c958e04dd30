"""Merge, extract, resize: exact where they promise it, and each keeps what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from sdlora.cli import commands
from sdlora.core.errors import BadInput, SdloraError
from sdlora.families.spec import Part
from sdlora.lora_files import merge, resize, write
from sdlora.lora_files.extract import extract
from sdlora.lora_files.layers import Layer, Lora
from sdlora.lora_files.merge_into_base import apply_changes, changes_by_tensor
from sdlora.lora_files.read import LoraFile, read_lora
from sdlora.models.bases import resolve_base
from sdlora.models.load import load_base
from sdlora.models.weights import open_weights, write_modified_base
from tests.layouts import LAYOUT, models
from tests.ldm_files import make_vae, write_checkpoint

Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.0.resnets.0.conv1"
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"
OUT = "text_model.encoder.layers.0.self_attn.out_proj"


def layer(part: Part, path: str, rank: int, alpha: float, seed: int, sizes: tuple[int, ...] = (12, 10)) -> Layer:
    g = torch.Generator().manual_seed(seed)
    out, *inside = sizes
    ends = (1,) * (len(inside) - 1)
    return Layer(part, path, torch.randn(rank, *inside, generator=g), torch.randn(out, rank, *ends, generator=g), alpha)


def lora(rank: int, alpha: float, seed: int, *paths: str) -> Lora:
    sizes = {CONV: (8, 6, 3, 3)}
    layers = [
        layer("text_encoder" if p == TEXT else "unet", p, rank, alpha, seed + n, sizes.get(p, (12, 10)))
        for n, p in enumerate(sorted(paths))
    ]
    return Lora(tuple(sorted(layers, key=lambda x: (x.part, x.path))), "sd1", {"ss_base_model_version": "sd_v1"})


def delta(found: Lora, path: str) -> Tensor:
    return next((x.delta() for x in found.layers if x.path == path), torch.zeros(()))


@pytest.mark.parametrize("strengths", [(1.0, 1.0), (0.7, -0.4), (2.0, 0.0)])
def test_a_merged_lora_is_the_sum_of_the_effects(strengths: tuple[float, float]) -> None:
    a, b = lora(4, 1.0, 1, Q, CONV), lora(3, 8.0, 7, Q, CONV, TEXT)
    merged = merge.merge([(a, strengths[0]), (b, strengths[1])], torch.float32)
    assert {x.rank for x in merged.layers} == {7}
    assert {x.alpha for x in merged.layers} == {7.0}
    for path in (Q, CONV, TEXT):
        expected = strengths[0] * delta(a, path) + strengths[1] * delta(b, path)
        torch.testing.assert_close(delta(merged, path), expected, atol=1e-4, rtol=1e-4)


def test_merge_refuses_what_does_not_belong_together() -> None:
    other = Lora(lora(2, 2.0, 1, Q).layers, "sdxl", {})
    with pytest.raises(BadInput, match="sd1, sdxl"):
        merge.merge([(lora(2, 2.0, 1, Q), 1.0), (other, 1.0)], torch.float32)
    wide = Lora((layer("unet", Q, 2, 2.0, 3, (12, 11)),), "sd1", {})
    with pytest.raises(BadInput, match="different sizes"):
        merge.merge([(lora(2, 2.0, 1, Q), 1.0), (wide, 1.0)], torch.float32)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_resize_is_the_nearest_of_its_rank_and_keeps_what_it_says(rank: int) -> None:
    whole = lora(6, 3.0, 2, Q, CONV, TEXT)
    small = resize.resize(whole, rank, None, torch.float32)
    assert {x.rank for x in small.lora.layers} == {rank}
    shares, total, kept = [], 0.0, 0.0
    for path in (Q, CONV, TEXT):
        before, after = delta(whole, path).flatten(1).double(), delta(small.lora, path).flatten(1).double()
        s = torch.linalg.svdvals(before)
        best = (s[rank:] ** 2).sum()
        torch.testing.assert_close(((before - after) ** 2).sum(), best, atol=1e-4, rtol=1e-4)
        shares.append(float((after**2).sum() / (before**2).sum()))
        total, kept = total + float((before**2).sum()), kept + float((after**2).sum())
    assert small.least_energy == pytest.approx(min(shares), abs=1e-5)
    assert small.energy == pytest.approx(kept / total, abs=1e-5)


@pytest.mark.parametrize("energy", [0.3, 0.8, 0.99, 1.0])
def test_resize_by_energy_takes_the_smallest_rank_that_keeps_it(energy: float) -> None:
    whole = lora(6, 3.0, 2, Q, CONV)
    small = resize.resize(whole, None, energy, torch.float32)
    assert small.least_energy >= energy - 1e-9
    if small.rank > 1:
        assert resize.resize(whole, small.rank - 1, None, torch.float32).least_energy < energy
    with pytest.raises(BadInput, match="rank is 6"):
        resize.resize(whole, 7, None, torch.float32)


def weights(found: dict[str, torch.nn.Module]) -> dict[str, dict[str, Tensor]]:
    return {
        part: {
            k if part == "unet" or k.startswith("text_model.") else f"text_model.{k}": v
            for k, v in m.state_dict().items()
        }
        for part, m in found.items()
    }


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_extract_recovers_an_update_of_low_rank(family: str) -> None:
    base = weights(models(family).parts)
    tuned = {part: dict(states) for part, states in base.items()}
    g = torch.Generator().manual_seed(4)
    places: list[tuple[Part, str]] = [("unet", "mid_block.attentions.0.transformer_blocks.0.attn2.to_v")]
    places += [
        ("unet", "mid_block.resnets.0.conv1"),
        ("unet", "down_blocks.1.attentions.0.proj_in"),
        ("text_encoder", TEXT),
    ]
    updates = {}
    for part, path in places:
        weight = base[part][f"{path}.weight"]
        flat = torch.randn(len(weight), 3, generator=g) @ torch.randn(3, weight[0].numel(), generator=g)
        updates[part, path] = 0.1 * flat.reshape(weight.shape)
        tuned[part][f"{path}.weight"] = weight + updates[part, path]
    found = extract(LAYOUT, base, tuned, 3, "attention+ff+conv", lambda done, total: None)
    assert {(x.part, x.path) for x in found.lora.layers} == set(updates)
    for x in found.lora.layers:
        expected = tuned[x.part][f"{x.path}.weight"] - base[x.part][f"{x.path}.weight"]
        torch.testing.assert_close(x.delta(), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(x.delta(), updates[x.part, x.path], atol=1e-4, rtol=1e-4)
    assert found.energy == pytest.approx(1.0, abs=1e-5)
    assert extract(LAYOUT, base, tuned, 1, "attention+ff+conv", lambda done, total: None).energy < 0.9


def test_extract_of_a_large_layer() -> None:
    """Where the randomised decomposition takes over."""
    g = torch.Generator().manual_seed(0)
    before = torch.randn(700, 600, generator=g)
    update = torch.randn(700, 8, generator=g) @ torch.randn(8, 600, generator=g) / 30
    states = [{"unet": {f"{Q}.weight": w}} for w in (before, before + update)]
    found = extract(LAYOUT, *states, 8, "attention", lambda done, total: None)
    torch.testing.assert_close(found.lora.layers[0].delta(), update, atol=1e-4, rtol=1e-4)
    with pytest.raises(BadInput, match="nothing to extract"):
        extract(LAYOUT, states[0], states[0], 8, "attention", lambda done, total: None)
    with pytest.raises(BadInput, match="different kinds"):
        extract(LAYOUT, states[0], {"unet": {}}, 8, "attention", lambda done, total: None)


def fitting(base: Path, rank: int = 4) -> Lora:
    """A random LoRA for this base, in UNet and text encoder."""
    found = open_weights(base)
    # diffusers knows a kohya text encoder by its `out_proj`: without one it refuses the file
    places: list[tuple[Part, str]] = [("unet", Q), ("unet", CONV), ("text_encoder", TEXT), ("text_encoder", OUT)]
    layers = [
        layer(part, path, rank, 2.0, n, tuple(found[part][f"{path}.weight"].shape))
        for n, (part, path) in enumerate(places)
    ]
    return Lora(tuple(sorted(layers, key=lambda x: (x.part, x.path))), "sd1", {})


def test_a_merged_base_draws_what_base_and_lora_draw(tiny_base: Path, tmp_path: Path) -> None:
    found = fitting(tiny_base)
    where = changes_by_tensor([(LoraFile.of(found), 0.5)], open_weights(tiny_base))
    out = tmp_path / "merged"
    write_modified_base(
        tiny_base,
        out,
        lambda p, n, w: apply_changes(w, where[p, n]) if (p, n) in where else w,
        lambda done, total: None,
    )
    assert all(name.startswith("text_model.") for name in load_file(out / "text_encoder" / "model.safetensors"))
    before, after = open_weights(tiny_base), open_weights(out)
    for part in before:
        moved = {k for k in before[part] if not torch.equal(before[part][k], after[part][k])}
        assert moved == {f"{x.path}.weight" for x in found.of(part)}  # type: ignore[arg-type]
    file = write.write_lora(tmp_path / "l.safetensors", found, "kohya")
    pipe = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None, local_files_only=True)
    pipe.load_lora_weights(str(tmp_path), weight_name=file.name, adapter_name="independent")
    pipe.set_adapters(["independent"], [0.5])
    theirs = pipe.text_encoder(torch.arange(8)[None]).last_hidden_state
    merged = load_base(resolve_base(str(out)), "fp32", torch.device("cpu"))
    torch.testing.assert_close(
        merged.parts["text_encoder"](torch.arange(8)[None]).last_hidden_state, theirs, atol=1e-4, rtol=1e-4
    )
    x, t, text = torch.randn(1, 4, 16, 16), torch.tensor([5]), torch.randn(1, 7, 32)
    torch.testing.assert_close(merged.denoiser(x, t, text).sample, pipe.unet(x, t, text).sample, atol=1e-3, rtol=1e-3)
    with pytest.raises(BadInput, match="there already"):
        write_modified_base(tiny_base, out, lambda p, n, w: w, lambda done, total: None)
    with pytest.raises(BadInput, match="does not fit"):
        changes_by_tensor([(LoraFile.of(lora(2, 2.0, 0, "mid_block.attentions.7.proj_in")), 1.0)], before)


def sdlora(*words: object, code: int = 0) -> Any:
    """A command in this process, where torch is loaded already: its last line as JSON, or what it refuses with."""
    done = CliRunner().invoke(commands, [*map(str, words), "--json"])
    if code:
        assert isinstance(done.exception, SdloraError)
        assert done.exception.exit_code == code
        return done.exception.text.en
    assert done.exception is None, done.exception
    return json.loads(done.stdout.splitlines()[-1])


def test_the_commands(tiny_base: Path, tmp_path: Path) -> None:
    found = fitting(tiny_base)
    one = write.write_lora(tmp_path / "one.safetensors", found, "kohya")
    peft = sdlora("convert", one, "--to", "peft", "--out", tmp_path / "peft")
    assert (peft["format"], peft["rank"]) == ("peft", 4)
    back = sdlora("convert", tmp_path / "peft", "--to", "kohya", "--out", tmp_path / "back.safetensors")
    assert back["file"].endswith("back.safetensors")
    first, second = load_file(one), load_file(tmp_path / "back.safetensors")
    assert all(torch.equal(first[k], second[k]) for k in first)

    both = sdlora("merge", f"{one}:0.5", f"{tmp_path / 'back.safetensors'}:0.5", "--out", tmp_path / "both.safetensors")
    assert both["rank"] == 8
    small = sdlora("resize", tmp_path / "both.safetensors", "--rank", 4, "--out", tmp_path / "small.safetensors")
    assert small["energy"] == pytest.approx(1.0, abs=1e-5)
    for x, y in zip(found.layers, read_lora(tmp_path / "small.safetensors").layers, strict=True):
        torch.testing.assert_close(y.delta(), x.delta(), atol=1e-4, rtol=1e-4)

    merged = sdlora("merge", f"{one}:1", "--into", tiny_base, "--out", tmp_path / "merged")
    assert merged["layers"] == 4
    words = ("extract", "--base", tiny_base, "--tuned", tmp_path / "merged", "--rank", 4)
    got = sdlora(*words, "--dtype", "fp32", "--out", tmp_path / "got.safetensors")
    assert got["energy"] == pytest.approx(1.0, abs=1e-4)
    for x, y in zip(found.layers, read_lora(tmp_path / "got.safetensors").layers, strict=True):
        torch.testing.assert_close(y.delta(), x.delta(), atol=1e-4, rtol=1e-4)


def test_mistakes_are_sentences(tmp_path: Path) -> None:
    one = write.write_lora(tmp_path / "one.safetensors", lora(2, 2.0, 1, Q), "kohya")
    assert "does not exist" in sdlora("convert", "no.safetensors", "--to", "peft", "--out", tmp_path / "x", code=2)
    assert "--rank or --energy" in sdlora("resize", one, "--out", tmp_path / "x.safetensors", code=2)
    assert "-10 to 10" in sdlora("merge", f"{one}:50", "--out", tmp_path / "x.safetensors", code=2)
    save_file({"x": torch.zeros(1)}, tmp_path / "no.safetensors")
    assert "none by the name" in sdlora("resize", tmp_path / "no.safetensors", "--rank", 1, "--out", "x", code=2)


def test_merging_into_a_single_file_makes_a_folder(tmp_path: Path) -> None:
    from tests.test_single_file import usable

    file = usable(tmp_path)
    found = fitting(file)
    where = changes_by_tensor([(LoraFile.of(found), 1.0)], open_weights(file))
    out = tmp_path / "merged"
    write_modified_base(
        file, out, lambda p, n, w: apply_changes(w, where[p, n]) if (p, n) in where else w, lambda d, t: None
    )
    base = load_base(resolve_base(str(out)), "fp32", torch.device("cpu"))
    before = open_weights(file)
    for x in found.of("unet"):
        moved = base.denoiser.state_dict()[f"{x.path}.weight"] - before["unet"][f"{x.path}.weight"]
        torch.testing.assert_close(moved, x.delta().reshape(moved.shape), atol=1e-4, rtol=1e-4)
    assert StableDiffusionPipeline.from_pretrained(out, local_files_only=True).unet is not None


def test_sdxl_files_open_too(tmp_path: Path) -> None:
    made = models("sdxl")
    found = open_weights(write_checkpoint(tmp_path / "xl.safetensors", made, make_vae()))
    assert set(found) == {"unet", "text_encoder", "text_encoder_2"}
