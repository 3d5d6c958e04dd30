"""What LoRA promises: an untrained one is the base, its effect is linear in strength, its file means the same elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image, ImageChops, ImageStat
from safetensors import safe_open
from safetensors.torch import load_file

from sdlora import config
from sdlora.adapters.inject import Adapters, inject
from sdlora.adapters.layer_names import Format
from sdlora.adapters.spec import AdapterConfig, count_adapter_parameters
from sdlora.core.errors import BadInput, Diverged
from sdlora.core.safetensors_io import writer
from sdlora.families import FAMILIES
from sdlora.families.base_model import Base
from sdlora.lora_files import kohya, write
from sdlora.lora_files.inspect import inspect_file
from sdlora.lora_files.layers import Lora
from sdlora.lora_files.metadata import RunMetadata
from sdlora.models.bases import facts, resolve_base
from sdlora.models.load import load_base
from sdlora.models.precision import Precision
from sdlora.render.renderer import DrawRequest, Renderer
from tests.layouts import LAYOUT

CPU = torch.device("cpu")


def load(folder: Path, precision: Precision = "fp32") -> Base:
    return load_base(resolve_base(str(folder)), precision, CPU)


def adapted(base: Base, targets: str = "attention", rank: int = 4, alpha: float = 2.0) -> Adapters:
    return inject(
        {"unet": base.denoiser, "text_encoder": base.parts["text_encoder"]},
        LAYOUT,
        AdapterConfig(rank, alpha, targets),
        seed=1,
    )  # type: ignore[arg-type]


def fill(adapters: Adapters, size: float = 0.3) -> None:
    """As if trained: B is not zero any more."""
    g = torch.Generator().manual_seed(7)
    for name, p in adapters.named_parameters().items():
        if name.endswith("lora_B"):
            adapters.load({name: torch.randn(p.shape, generator=g) * size})


def about(name: str = "disc") -> RunMetadata:
    return RunMetadata(
        name=name,
        family=FAMILIES["sd1"].metadata,
        prediction="epsilon",
        base_name="tiny",
        resolution=32,
        created=1_700_000_000.5,
        settings=config.values_of(config.from_values({"lora.rank": 4, "lora.alpha": 2.0, "data.trigger": "zz"})),
        captions=["red disc, round", "blue disc, round"],
        step=10,
    )


def difference(a: Image.Image, b: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(a, b)).mean) / 3


@pytest.mark.parametrize(
    ("targets", "expected"), [("attention", 797_184), ("attention+ff", 0), ("attention+ff+conv", 0)]
)
def test_parameter_count_on_the_real_unet(targets: str, expected: int) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964
    shapes = {name: tuple(p.shape) for name, p in unet.named_parameters()}
    by_names = count_adapter_parameters(LAYOUT, "unet", shapes, AdapterConfig(4, 4.0, targets))  # type: ignore[arg-type]
    assert by_names == inject({"unet": unet}, LAYOUT, AdapterConfig(4, 4.0, targets), seed=0).parameter_count()  # type: ignore[arg-type]
    if targets == "attention":
        assert by_names == expected
        assert f"{by_names / 859_520_964:.2%}" == "0.09%"


def test_counts_from_files_equal_the_models(tiny_base: Path) -> None:
    known, base = facts(resolve_base(str(tiny_base))), load(tiny_base)
    assert known is not None
    assert known.parameters("unet") == sum(p.numel() for p in base.denoiser.parameters())
    assert known.parameters("text_encoder") == sum(p.numel() for p in base.parts["text_encoder"].parameters())
    for targets in ("attention", "attention+ff", "attention+ff+conv"):
        config = AdapterConfig(4, 2.0, targets)  # type: ignore[arg-type]
        counted = count_adapter_parameters(LAYOUT, "unet", known.shapes["unet"], config)
        counted += count_adapter_parameters(LAYOUT, "text_encoder", known.shapes["text_encoder"], config)
        assert counted == adapted(load(tiny_base), targets).parameter_count()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_untrained_and_strength_0_are_the_base_bit_for_bit(tiny_base: Path, precision: Precision) -> None:
    drawing = DrawRequest("red disc", steps=3)
    plain = Renderer(load(tiny_base, precision)).draw(drawing).tobytes()
    base = load(tiny_base, precision)
    adapters = adapted(base, "attention+ff")
    renderer = Renderer(base, adapters)
    assert renderer.draw(drawing).tobytes() == plain
    fill(adapters)
    assert renderer.draw(drawing).tobytes() != plain
    renderer.set_strength(0.0)
    assert renderer.draw(drawing).tobytes() == plain


def test_strength_is_linear_in_the_weights(tiny_base: Path) -> None:
    base = load(tiny_base)
    adapters = adapted(base)
    fill(adapters)
    layer = adapters.parts["unet"]["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"]
    a, b = layer.lora_A["sdlora"].weight, layer.lora_B["sdlora"].weight
    x = torch.randn(2, 5, a.shape[1])
    for strength in (-1.0, 0.5, 1.0, 1.5):
        adapters.set_strength(strength)
        expected = x @ (layer.base_layer.weight + strength * (2.0 / 4) * (b @ a)).T
        torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


def test_blocks_narrow_the_targets(tiny_base: Path) -> None:
    def paths(blocks: str) -> list[str]:
        base, config = load(tiny_base), AdapterConfig(4, 4.0, "attention+ff+conv", blocks)
        shapes = {name: tuple(p.shape) for name, p in base.denoiser.named_parameters()}
        adapters = inject({"unet": base.denoiser}, LAYOUT, config, seed=0)
        assert count_adapter_parameters(LAYOUT, "unet", shapes, config) == adapters.parameter_count()
        return list(adapters.parts["unet"])

    first, second = "up_blocks.1.attentions.0", "up_blocks.1.attentions.1"
    assert all(p.startswith(second) for p in paths(second))
    assert len(paths(f"{first}, {second}")) == 2 * len(paths(second)) == len(paths("up_*.attentions"))
    assert all(".attn2." in p for p in paths("attn2"))
    assert paths("*") == paths("")
    with pytest.raises(BadInput, match=r"up_blocks\.7"):
        paths("up_blocks.7")


def test_same_seed_same_adapters_whatever_the_global_generator(tiny_base: Path) -> None:
    made = []
    for state in (1, 2):
        torch.manual_seed(state)
        made.append(adapted(load(tiny_base)).named_parameters())
        assert torch.initial_seed() == state
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


@pytest.mark.parametrize("targets", ["attention", "attention+ff+conv"])
def test_the_file_is_the_same_lora_in_diffusers(tiny_base: Path, tmp_path: Path, targets: str) -> None:
    base = load(tiny_base)
    adapters = adapted(base, targets)
    fill(adapters)
    file = tmp_path / "disc.safetensors"
    kohya.write(file, adapters, "sd1", about(), "fp32")
    drawing = DrawRequest("red disc", seed=3, steps=4)
    ours = Renderer(base, adapters).draw(drawing)

    pipe = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    without = pipe(
        "red disc", num_inference_steps=4, guidance_scale=6.0, generator=torch.Generator().manual_seed(3)
    ).images[0]
    pipe.load_lora_weights(str(tmp_path), weight_name=file.name, adapter_name="independent")
    theirs = pipe(
        "red disc", num_inference_steps=4, guidance_scale=6.0, generator=torch.Generator().manual_seed(3)
    ).images[0]
    assert difference(ours, theirs) < 0.05
    assert difference(without, theirs) > 1


def test_kohya_names_alphas_and_metadata(tiny_base: Path, tmp_path: Path) -> None:
    base = load(tiny_base)
    adapters = adapted(base, "attention+ff")
    fill(adapters)
    file = tmp_path / "disc.safetensors"
    sha = kohya.write(file, adapters, "sd1", about(), "fp16")
    names = set(load_file(file))
    start = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"
    assert {f"{start}.lora_down.weight", f"{start}.lora_up.weight", f"{start}.alpha"} <= names
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight" in names
    assert len(names) == 3 * sum(len(layers) for layers in adapters.parts.values())
    assert load_file(file)[f"{start}.alpha"].shape == ()
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert metadata["ss_network_dim"] == "4"
    assert metadata["ss_network_alpha"] == "2.0"
    assert metadata["ss_base_model_version"] == "sd_v1"
    assert metadata["modelspec.trigger_phrase"] == "zz"
    assert metadata["modelspec.hash_sha256"] == "0x" + metadata["sshs_model_hash"]
    found = inspect_file(file)
    assert (found.format, found.family, found.rank, found.alpha, found.dtype) == ("kohya", "sd1", 4, 2.0, "fp16")
    assert found.parameters == adapters.parameter_count()
    assert found.sha256 == sha


def test_what_was_written_reads_back(tiny_base: Path, tmp_path: Path) -> None:
    adapters = adapted(load(tiny_base))
    fill(adapters)
    before = {name: p.data.clone() for name, p in adapters.named_parameters().items()}
    kohya.write(tmp_path / "a.safetensors", adapters, "sd1", about(), "fp32")
    fill(adapters, 9.0)
    adapters.load(kohya.read_parameters(tmp_path / "a.safetensors", adapters, "sd1"))
    assert all(torch.equal(before[name], p.data) for name, p in adapters.named_parameters().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_what_is_not_finite_never_reaches_the_disk(tiny_base: Path, tmp_path: Path, value: float) -> None:
    adapters = adapted(load(tiny_base))
    next(iter(adapters.named_parameters().values())).data[0, 0] = value
    with pytest.raises(Diverged):
        kohya.write(tmp_path / "a.safetensors", adapters, "sd1", about(), "fp16")
    assert not list(tmp_path.iterdir())


def test_canonical_bytes(tmp_path: Path) -> None:
    tensors = {"b": torch.ones(3, dtype=torch.bfloat16), "a": torch.arange(6.0).reshape(2, 3).T, "n": torch.tensor(7)}
    once = writer.to_bytes(tensors, {"y": "2", "x": "１"})
    assert once == writer.to_bytes(dict(reversed(tensors.items())), {"x": "１", "y": "2"})
    writer.write(tmp_path / "t.safetensors", tensors, {"x": "１"})
    back = load_file(tmp_path / "t.safetensors")
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 not a tensor file",
        b"\xff" * 8 + b"{}",
        (50).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (67).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}            ',
    ],
)
def test_files_that_are_no_lora_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(BadInput):
        inspect_file(tmp_path / "x.safetensors")


def uneven(base: Base) -> Lora:
    """As other trainers write them: ranks and alphas that differ, and a text encoder without `out_proj`."""
    adapters = adapted(base, "attention+ff")
    fill(adapters, 0.05)
    layers = [
        replace(x, down=x.down[: 1 + n % 4].contiguous(), up=x.up[:, : 1 + n % 4].contiguous(), alpha=float(1 + n % 3))
        for n, x in enumerate(kohya.to_lora(adapters, "sd1").layers)
        if "out_proj" not in x.path
    ]
    return Lora(tuple(layers), "sd1", {})


@pytest.mark.parametrize("format", ["kohya", "peft"])
def test_files_that_diffusers_would_misread_are_drawn_right(tiny_base: Path, tmp_path: Path, format: Format) -> None:
    lora = uneven(load(tiny_base))
    file = write.write_lora(tmp_path / ("x.safetensors" if format == "kohya" else "x"), lora, format)
    base = load(tiny_base)
    for x in lora.layers:
        weight = base.parts[x.part].get_submodule(x.path.removeprefix("text_model.")).weight
        weight.data += x.delta(0.5).reshape(weight.shape)
    expected = Renderer(base).latent(DrawRequest("disc", steps=2, guidance=1.0), 32)
    renderer = Renderer(load(tiny_base))
    renderer.load(file)
    renderer.set_strength(0.5)
    torch.testing.assert_close(
        renderer.latent(DrawRequest("disc", steps=2, guidance=1.0), 32), expected, atol=1e-4, rtol=1e-4
    )
