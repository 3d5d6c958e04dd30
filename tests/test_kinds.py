"""Every kind of adapter: untrained it is the base, its strength is linear, and its file means what was trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from sdlora import config
from sdlora.adapters.inject import Adapters, eject, inject
from sdlora.adapters.kinds import KINDS
from sdlora.adapters.spec import AdapterConfig, Targets, count_adapter_parameters, target_pattern
from sdlora.config.adapters import Kind
from sdlora.config.inactive import inactive_settings
from sdlora.core.errors import BadInput, Diverged, Unloadable
from sdlora.families.base_model import Base
from sdlora.lora_files import kohya
from sdlora.lora_files.inspect import inspect_file
from sdlora.lora_files.read import read_file, read_lora
from sdlora.models.bases import facts, resolve_base
from sdlora.render.renderer import DrawRequest, Renderer
from sdlora.render.verify import verify_file
from tests.layouts import LAYOUT, unet_config
from tests.test_lora import about, load

WIDE: Targets = "attention+ff+conv"


def moved(adapters: Adapters, size: float = 0.1) -> Adapters:
    """As if trained: nothing is zero any more."""
    g = torch.Generator().manual_seed(7)
    for p in adapters.named_parameters().values():
        p.data += torch.randn(p.shape, generator=g) * size
    return adapters


def adapted(base: Base, kind: str, rank: int = 4, **more: Any) -> Adapters:
    config = AdapterConfig(rank, 2.0, WIDE, kind=kind, **more)
    return inject(base.parts, LAYOUT, config, seed=1)


@pytest.mark.parametrize("rank", [2, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_counted_without_torch_untrained_and_at_strength_0_it_is_the_base(
    tiny_base: Path, kind: str, rank: int
) -> None:
    base, known = load(tiny_base), facts(resolve_base(str(tiny_base)))
    assert known is not None
    renderer, drawing = Renderer(base), DrawRequest("red disc", steps=2)
    plain = renderer.latent(drawing, 32)
    adapters = adapted(base, kind, rank, text_encoder_rank=3)
    counted = count_adapter_parameters(LAYOUT, "unet", known.shapes["unet"], adapters.config)
    counted += count_adapter_parameters(LAYOUT, "text_encoder", known.shapes["text_encoder"], adapters.config)
    assert counted == adapters.parameter_count()
    live = Renderer(base, adapters)
    assert torch.equal(live.latent(drawing, 32), plain)
    moved(adapters)
    assert (live.latent(drawing, 32) - plain).abs().max() > 0.1
    live.set_strength(0.0)
    assert torch.equal(live.latent(drawing, 32), plain)


@pytest.mark.parametrize("kind", KINDS)
def test_strength_is_linear_in_the_weights(tiny_base: Path, kind: str) -> None:
    base = load(tiny_base)
    adapters = moved(adapted(base, kind))
    for path in ("down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2", "down_blocks.0.downsamplers.0.conv"):
        layer: Any = adapters.parts["unet"][path]
        adapters.set_strength(1.0)
        inside, delta = layer.get_base_layer(), adapters.delta_weight(layer)
        x = torch.randn(2, inside.weight.shape[1], 6, 6) if delta.dim() == 4 else torch.randn(3, delta.shape[1])
        weight = inside.weight.data.clone()
        for strength in (-1.0, 0.5, 1.0, 1.5):
            adapters.set_strength(strength)
            ours = layer(x)
            inside.weight.data = weight + strength * delta
            torch.testing.assert_close(ours, inside(x), atol=1e-4, rtol=1e-4)
            inside.weight.data = weight


def by_hand(group: dict[str, Tensor], weight: Tensor) -> np.ndarray:
    """What a file's layer changes, in numpy from the papers' own equations, column by column where they are."""
    g, w = {k: v.double().numpy() for k, v in group.items()}, weight.double().numpy()
    flat = w.reshape(len(w), -1)
    if "hada_w1_a" in g:
        rank = g["hada_w1_a"].shape[1]
        pairs = [np.einsum("or,ri->oi", g[f"hada_w{n}_a"], g[f"hada_w{n}_b"]) for n in (1, 2)]
        return (g["alpha"] / rank * pairs[0] * pairs[1]).reshape(w.shape)
    if "lokr_w1" in g:
        low = "lokr_w2" not in g
        second = g["lokr_w2_a"] @ g["lokr_w2_b"] if low else g["lokr_w2"].reshape(len(g["lokr_w2"]), -1)
        scale = g["alpha"] / g["lokr_w2_a"].shape[1] if low else 1.0
        blocks = [[scale * factor * second for factor in row] for row in g["lokr_w1"]]
        return np.block(blocks).reshape(w.shape)
    rank = len(g["lora_down.weight"])
    plain = g["alpha"] / rank * g["lora_up.weight"].reshape(len(w), -1) @ g["lora_down.weight"].reshape(rank, -1)
    if "dora_scale" not in g:
        return plain.reshape(w.shape)
    merged = (flat + plain).reshape(w.shape)
    result = np.empty_like(merged)
    for column in range(w.shape[1]):
        length = np.sqrt((merged[:, column] ** 2).sum())
        result[:, column] = merged[:, column] / length * g["dora_scale"].ravel()[column]
    return result - w


@pytest.mark.parametrize("rank", [2, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_means_what_was_trained(tiny_base: Path, tmp_path: Path, kind: str, rank: int) -> None:
    base = load(tiny_base)
    adapters = moved(adapted(base, kind, rank))
    file = tmp_path / "x.safetensors"
    kohya.write(file, adapters, "sd1", about(), "fp32")
    found = read_file(file).layers
    assert len(found) == sum(len(layers) for layers in adapters.parts.values())
    for part, layers in adapters.parts.items():
        for path, layer in layers.items():
            inside: Any = layer.get_base_layer()
            name = path if part == "unet" else f"text_model.{path}"
            expected = torch.from_numpy(by_hand(found[part, name], inside.weight.data)).float()
            torch.testing.assert_close(adapters.delta_weight(layer), expected, atol=1e-5, rtol=1e-4)
    known = inspect_file(file)
    assert known.network == {"lora": "locon", "rslora": "locon"}.get(kind, kind)
    assert known.parameters == adapters.parameter_count()


@pytest.mark.parametrize("kind", KINDS)
def test_certified_drawn_and_read_back(tiny_base: Path, tmp_path: Path, kind: str) -> None:
    """Also in fp16, and with a rank of its own for the text encoder; by a base that has never seen the adapters."""
    base = load(tiny_base)
    adapters = moved(adapted(base, kind, text_encoder_rank=2))
    file = tmp_path / "x.safetensors"
    kohya.write(file, adapters, "sd1", about(), "fp16")
    drawing = DrawRequest("red disc", seed=3, steps=2)
    live = Renderer(base, adapters)
    ours = []
    for strength in (1.0, 0.5, 0.0):
        live.set_strength(strength)
        ours.append(live.latent(drawing, 32))
    live.set_strength(1.0)
    before = {name: p.data.clone() for name, p in adapters.named_parameters().items()}
    adapters.load({name: torch.zeros_like(p) for name, p in before.items()})
    adapters.load(kohya.read_parameters(file, adapters, "sd1"))
    for name, p in adapters.named_parameters().items():
        torch.testing.assert_close(p.data, before[name], atol=2e-3, rtol=2e-3)
    certificate = verify_file(file, base, adapters)
    assert certificate.difference < 0.05
    assert ("does not load" in certificate.text.en) == (kind not in ("lora", "rslora"))

    theirs = Renderer(load(tiny_base))
    theirs.load(file)
    for strength, expected in zip((1.0, 0.5, 0.0), ours, strict=True):
        theirs.set_strength(strength)
        latent = theirs.latent(drawing, 32)
        assert (latent - expected).norm() < 0.05 * (ours[0] - ours[2]).norm() + 1e-5
    theirs.load(None)
    assert torch.equal(theirs.latent(drawing, 32), ours[2])


def test_a_rank_of_its_own_for_the_text_encoder_is_one_rank_in_the_file(tiny_base: Path, tmp_path: Path) -> None:
    adapters = moved(adapted(load(tiny_base), "lora", rank=4, text_encoder_rank=6))
    kohya.write(tmp_path / "x.safetensors", adapters, "sd1", about(), "fp32")
    lora = read_lora(tmp_path / "x.safetensors")
    assert {(x.rank, x.alpha, x.scale) for x in lora.layers} == {(6, 3.0, 0.5)}


def swapped(t: dict[str, Tensor], first: str, second: str) -> dict[str, Tensor]:
    return t | {first: t[second], second: t[first]}


@pytest.mark.parametrize(
    ("kind", "ending", "says"),
    [("dora", "dora_scale", "other numbers"), ("loha", "hada_w2_a", "other numbers"), ("lokr", "lokr_w1", "numbers")],
)
def test_a_wrong_file_fails(
    tiny_base: Path, tmp_path: Path, kind: str, ending: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    base = load(tiny_base)
    adapters = moved(adapted(base, kind))
    file = tmp_path / "x.safetensors"
    kohya.write(file, adapters, "sd1", about(), "fp32")
    tensors = load_file(file)
    first, second = (
        n
        for n in sorted(tensors)
        if "attn1_to_" in n
        and ("_to_q." in n or "_to_k." in n)
        and "down_blocks_0_attentions_0" in n
        and n.endswith(ending)
    )
    save_file(swapped(tensors, first, second), file)
    with pytest.raises(Unloadable, match=says):
        verify_file(file, base, adapters)


@pytest.mark.parametrize("kind", ["dora", "loha", "lokr"])
def test_what_a_format_cannot_hold_is_refused(tiny_base: Path, tmp_path: Path, kind: str) -> None:
    base = load(tiny_base)
    adapters = moved(adapted(base, kind))
    file = tmp_path / "x.safetensors"
    kohya.write(file, adapters, "sd1", about(), "fp32")
    with pytest.raises(BadInput, match=f"{KINDS[kind].title} layers"):
        read_lora(file)
    next(iter(adapters.named_parameters().values())).data.flatten()[0] = float("nan")
    with pytest.raises(Diverged):
        kohya.write(tmp_path / "y.safetensors", adapters, "sd1", about(), "fp32")
    with pytest.raises(BadInput, match=r"another rank|missing"):
        kohya.read_parameters(
            file, inject({"unet": load(tiny_base).denoiser}, LAYOUT, AdapterConfig(16, 2.0, WIDE, kind=kind), 1), "sd1"
        )
    eject(base.parts)


def test_the_two_blocks_of_b_lora() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config("sdxl"))
    paths = [path for path, _ in unet.named_modules()]
    for block in ("up_blocks.0.attentions.0", "up_blocks.0.attentions.1"):
        wanted = re.compile(target_pattern(LAYOUT, "unet", "attention", block))
        found = [path for path in paths if wanted.fullmatch(path)]
        assert len(found) == 10 * 8
        assert all(path.startswith(f"{block}.transformer_blocks.") for path in found)


def test_settings_know_the_same_kinds_and_what_has_no_effect_for_them() -> None:
    assert set(get_args(Kind)) == KINDS.keys()
    for kind in KINDS.values():
        values = config.values_of(config.from_values({})) | {"lora.kind": kind.name}
        inactive = inactive_settings(values).keys() - inactive_settings(values | {"lora.kind": "lora"}).keys()
        assert inactive == set(kind.inactive_settings), kind.name


def test_rslora_is_another_scale() -> None:
    assert AdapterConfig(16, 8.0, "attention", kind="rslora").scale == 8.0 / 4
    assert AdapterConfig(16, 8.0, "attention").scale == 8.0 / 16
    assert config.from_values({"lora.kind": "lokr"}).lora.kind == "lokr"
