"""Every format loads through code that is not ours, into models with the real block layouts, and means the same there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdlora.adapters.inject import Adapters, inject
from sdlora.adapters.kinds import FILE_KINDS
from sdlora.adapters.layer_names import kohya_name, parse
from sdlora.adapters.spec import AdapterConfig, Targets, count_adapter_parameters
from sdlora.core.errors import BadInput
from sdlora.families import ldm_names
from sdlora.lora_files import kohya, write
from sdlora.lora_files.inspect import inspect_file
from sdlora.lora_files.layers import Layer, Lora
from sdlora.lora_files.read import read_lora
from tests.layouts import LAYOUT, Models, models

# PEFT 0.21 asks transformers 5.23 by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
FAMILIES = ("sd1", "sd2", "sdxl")


def adapted(family: str, alpha: float, targets: Targets = "attention+ff+conv") -> tuple[Models, Adapters]:
    """Models with adapters inside, as if trained."""
    made = models(family)
    adapters = inject(made.parts, LAYOUT, AdapterConfig(4, alpha, targets), seed=1)  # type: ignore[arg-type]
    g = torch.Generator().manual_seed(7)
    for name, p in adapters.named_parameters().items():
        if name.endswith("lora_B"):
            p.data.copy_(torch.randn(p.shape, generator=g) * 0.1)
    return made, adapters


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], without: dict[str, Tensor]) -> None:
    for part, output in ours.items():
        assert (output - without[part]).abs().max() > 1e-2, f"{part}: the LoRA does nothing"
        torch.testing.assert_close(theirs[part], output, atol=1e-4, rtol=1e-4)


def tensor_bytes(path: Path) -> dict[str, tuple[torch.dtype, tuple[int, ...], bytes]]:
    return {
        name: (t.dtype, tuple(t.shape), t.reshape(-1).view(torch.uint8).numpy().tobytes())
        for name, t in load_file(path).items()
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("alpha", [1.0, 8.0])
def test_each_format_in_diffusers_and_peft(tmp_path: Path, family: str, alpha: float) -> None:
    made, adapters = adapted(family, alpha)
    ours, without = made.outputs(), models(family).outputs()
    lora = kohya.to_lora(adapters, family)
    for format in ("kohya", "diffusers"):
        file = write.write_lora(tmp_path / f"{format}.safetensors", lora, format)  # type: ignore[arg-type]
        fresh = models(family)
        fresh.pipeline().load_lora_weights(str(tmp_path), weight_name=file.name, adapter_name="independent")
        assert_same(ours, fresh.outputs(), without)
    folder = write.write_lora(tmp_path / "peft", lora, "peft")
    fresh = models(family)
    for part in fresh.parts:
        fresh.parts[part] = PeftModel.from_pretrained(fresh.parts[part], folder / part).base_model.model
    assert_same(ours, fresh.outputs(), without)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_round_trip_of_all_formats_keeps_every_byte(tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    _, adapters = adapted(family, 3.0)
    first = write.write_lora(tmp_path / "a.safetensors", kohya.to_lora(adapters, family).cast(dtype), "kohya")
    second = write.write_lora(tmp_path / "b.safetensors", read_lora(first), "diffusers")
    third = write.write_lora(tmp_path / "c", read_lora(second), "peft")
    fourth = write.write_lora(tmp_path / "d.safetensors", read_lora(third), "kohya")
    assert tensor_bytes(first) == tensor_bytes(fourth)
    assert first.read_bytes() == fourth.read_bytes()  # the metadata too
    with safe_open(fourth, "pt") as opened:
        assert "lora_adapter_metadata" not in opened.metadata()
        assert "format" not in opened.metadata()


def test_ranks_and_alphas_that_differ_survive(tmp_path: Path) -> None:
    _, adapters = adapted("sd1", 4.0)
    layers = [
        Layer(x.part, x.path, x.down[: 1 + n % 4].contiguous(), x.up[:, : 1 + n % 4].contiguous(), float(1 + n % 3))
        for n, x in enumerate(kohya.to_lora(adapters, "sd1").layers)
    ]
    lora = Lora(tuple(layers), "sd1", {})
    fresh = models("sd1")
    folder = write.write_lora(tmp_path / "peft", lora, "peft")
    fresh.parts["unet"] = PeftModel.from_pretrained(fresh.parts["unet"], folder / "unet").base_model.model
    by_peft = fresh.outputs()["unet"]
    fresh = models("sd1")
    write.write_lora(tmp_path / "d.safetensors", lora, "diffusers")
    fresh.pipeline().load_lora_weights(str(tmp_path), weight_name="d.safetensors", adapter_name="independent")
    torch.testing.assert_close(fresh.outputs()["unet"], by_peft, atol=1e-4, rtol=1e-4)
    back = read_lora(write.write_lora(tmp_path / "k.safetensors", read_lora(folder), "kohya"))
    assert [(x.rank, x.alpha) for x in back.layers] == [(x.rank, x.alpha) for x in lora.layers]
    assert back.metadata["ss_network_dim"] == "Dynamic"


# Counts of INTEROP.md, from sd-scripts' own networks: (attention + ff + proj, with convolutions).
@pytest.mark.parametrize(("family", "linear", "conv"), [("sd1", 192, 278), ("sd2", 192, 278), ("sdxl", 722, 788)])
def test_real_layouts_have_the_layers_that_sd_scripts_has(family: str, linear: int, conv: int) -> None:
    _, adapters = adapted(family, 1.0)
    paths = list(adapters.parts["unet"])
    assert len(paths) == conv
    assert sum("resnets" not in p and "samplers" not in p for p in paths) == linear
    encoders = {p: len(layers) for p, layers in adapters.parts.items() if p != "unet"}
    expected = {"sd1": {"text_encoder": 72}, "sd2": {"text_encoder": 138}}
    assert encoders == expected.get(family, {"text_encoder": 72, "text_encoder_2": 192})
    shapes = {n: tuple(p.shape) for n, p in models(family).parts["unet"].named_parameters()}
    assert count_adapter_parameters(LAYOUT, "unet", shapes, AdapterConfig(4, 1.0, "attention+ff+conv")) == sum(
        p.numel() for p in adapters.parameters_of("unet")
    )


def test_sdxl_has_ldm_names_and_both_prefixes() -> None:
    """Spot checks against sd-scripts' own files; the whole table is compared with diffusers' in test_single_file."""
    down, up = "down_blocks.1.attentions.0", "up_blocks.0"
    expected = {
        f"{down}.transformer_blocks.1.attn1.to_out.0": "input_blocks_4_1_transformer_blocks_1_attn1_to_out_0",
        "down_blocks.2.attentions.1.proj_in": "input_blocks_8_1_proj_in",
        "down_blocks.0.downsamplers.0.conv": "input_blocks_3_0_op",
        "down_blocks.1.resnets.0.conv_shortcut": "input_blocks_4_0_skip_connection",
        "mid_block.attentions.0.transformer_blocks.9.ff.net.0.proj": "middle_block_1_transformer_blocks_9_ff_net_0_proj",
        "mid_block.resnets.1.time_emb_proj": "middle_block_2_emb_layers_1",
        f"{up}.attentions.2.transformer_blocks.0.ff.net.2": "output_blocks_2_1_transformer_blocks_0_ff_net_2",
        f"{up}.upsamplers.0.conv": "output_blocks_2_2_conv",
        "up_blocks.2.resnets.1.conv1": "output_blocks_7_0_in_layers_2",
    }
    for path, flat in expected.items():
        assert kohya_name("unet", path, "sdxl") == f"lora_unet_{flat}"
    q = "encoder.layers.3.self_attn.q_proj"
    flat = "text_model_encoder_layers_3_self_attn_q_proj"
    assert kohya_name("text_encoder", q, "sd1") == f"lora_te_{flat}"
    assert kohya_name("text_encoder", f"text_model.{q}", "sdxl") == f"lora_te1_{flat}"
    assert kohya_name("text_encoder_2", f"text_model.{q}", "sdxl") == f"lora_te2_{flat}"


@pytest.mark.parametrize("family", FAMILIES)
def test_names_come_back(family: str) -> None:
    _, adapters = adapted(family, 1.0)
    for layer in kohya.to_lora(adapters, family).layers:
        for ending in ("lora_down.weight", "lora_up.weight", "alpha"):
            key = parse(f"{kohya_name(layer.part, layer.path, family)}.{ending}")
            assert key is not None
            assert (key.part, key.path, key.ending) == (layer.part, layer.path, ending)
    assert ldm_names.to_diffusers("label_emb.0.2.weight") == "add_embedding.linear_2.weight"


def test_old_diffusers_spellings(tmp_path: Path) -> None:
    """Files of 2023: attention processors without `unet.`, and `lora_linear_layer` in text encoders."""
    here = "down_blocks.0.attentions.0.transformer_blocks.0"
    text = "text_model.encoder.layers.0"
    names = {
        f"{here}.attn1.processor.to_q_lora": ("unet", f"{here}.attn1.to_q"),
        f"unet.{here}.attn2.processor.to_out_lora": ("unet", f"{here}.attn2.to_out.0"),
        f"unet.{here}.ff.net.0.proj.lora": ("unet", f"{here}.ff.net.0.proj"),
        f"text_encoder.{text}.self_attn.to_q_lora": ("text_encoder", f"{text}.self_attn.q_proj"),
        f"text_encoder.{text}.mlp.fc1.lora_linear_layer": ("text_encoder", f"{text}.mlp.fc1"),
        "text_encoder.encoder.layers.0.mlp.fc2.lora": ("text_encoder", f"{text}.mlp.fc2"),
    }
    tensors = {}
    for name in names:
        tensors[f"{name}.down.weight"], tensors[f"{name}.up.weight"] = torch.ones(2, 6), torch.ones(5, 2)
    save_file(tensors, tmp_path / "old.safetensors")
    found = read_lora(tmp_path / "old.safetensors")
    assert {(x.part, x.path) for x in found.layers} == set(names.values())
    assert {x.alpha for x in found.layers} == {2.0}


def lycoris(kind: str) -> dict[str, Tensor]:
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    ends = {
        "loha": {"hada_w1_a": (8, 3), "hada_w1_b": (3, 8), "hada_w2_a": (8, 3), "hada_w2_b": (3, 8)},
        "lokr": {"lokr_w1": (2, 2), "lokr_w2_a": (4, 3), "lokr_w2_b": (3, 4)},
        "dora": {"lora_down.weight": (3, 8), "lora_up.weight": (8, 3), "dora_scale": (8, 1)},
        "glora": {"a1.weight": (8, 3), "a2.weight": (3, 8), "b1.weight": (8, 3), "b2.weight": (3, 8)},
        "oft": {"oft_blocks": (2, 4, 4)},
        "ia3": {"weight": (8,), "on_input": ()},
        "full": {"diff": (8, 8)},
    }
    return {f"{name}.alpha": torch.tensor(3.0)} | {f"{name}.{e}": torch.ones(s) for e, s in ends[kind].items()}


TITLES = {kind.name: kind.title for kind in FILE_KINDS.values()} | {"dora": "DoRA"}


@pytest.mark.parametrize("kind", ["loha", "lokr", "dora", "glora", "oft", "ia3", "full"])
def test_what_is_no_plain_lora_is_named_and_not_damaged(tmp_path: Path, kind: str) -> None:
    save_file(lycoris(kind), tmp_path / "x.safetensors", {"ss_network_module": "lycoris.kohya"})
    found = inspect_file(tmp_path / "x.safetensors")
    assert (found.network, found.alpha, found.trainer) == (kind, 3.0, "LyCORIS")
    assert found.rank == (0 if kind in ("oft", "ia3", "full") else 3)
    assert found.targets == {"unet.attention": 1}
    with pytest.raises(BadInput, match=re.escape(f"holds {TITLES[kind]} layers, which are not two matrices")):
        read_lora(tmp_path / "x.safetensors")


def test_families_of_lycoris_files_without_metadata(tmp_path: Path) -> None:
    """By LDM's names, by a second text encoder, by the width of the text that a layer reads."""
    ends = {"hada_w1_a": (8, 3), "hada_w1_b": (3, 768), "hada_w2_a": (8, 3), "hada_w2_b": (3, 768)}
    cases = {
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q": ("sdxl", "unet.attention"),
        "lora_te2_text_model_encoder_layers_0_mlp_fc1": ("sdxl", "text_encoder_2.ff"),
        "lycoris_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": ("sd1", "unet.attention"),
        "lora_unet_mid_block_resnets_0_conv1": ("unknown", "unet.conv"),
    }
    for name, (family, target) in cases.items():
        save_file({f"{name}.{e}": torch.ones(s) for e, s in ends.items()}, tmp_path / "x.safetensors")
        found = inspect_file(tmp_path / "x.safetensors")
        assert (found.network, found.family, found.targets) == ("loha", family, {target: 1}), name


@pytest.mark.parametrize(
    ("metadata", "trainer", "family"),
    [
        ({"ot_branch": "master", "ss_base_model_version": "sd_v1"}, "OneTrainer", "sd1"),
        ({"software": '{"name": "ai-toolkit"}', "ss_base_model_version": "sd_2.1"}, "ai-toolkit", "sd2"),
        ({"ss_network_module": "networks.lora", "ss_base_model_version": "sdxl_base_v1-0"}, "sd-scripts", "sdxl"),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "unknown", "sdxl"),
    ],
)
def test_other_trainers_are_named(tmp_path: Path, metadata: dict[str, str], trainer: str, family: str) -> None:
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {f"{name}.lora_down.weight": torch.ones(2, 5), f"{name}.lora_up.weight": torch.ones(7, 2)}
    save_file(tensors, tmp_path / "x.safetensors", metadata)
    found = inspect_file(tmp_path / "x.safetensors")
    assert (found.trainer, found.family, found.format, found.network) == (trainer, family, "kohya", "lora")


def test_inspect_reads_alpha_and_rank_in_every_format(tmp_path: Path) -> None:
    _, adapters = adapted("sdxl", 3.0, "attention")
    lora = kohya.to_lora(adapters, "sdxl").cast(torch.float16)
    write.write_lora(tmp_path / "k.safetensors", lora, "kohya")
    write.write_lora(tmp_path / "d", lora, "diffusers")
    write.write_lora(tmp_path / "p", lora, "peft")
    found = [inspect_file(p) for p in (tmp_path / "k.safetensors", tmp_path / "d", tmp_path / "p")]
    assert [f.format for f in found] == ["kohya", "diffusers", "peft"]
    assert {(f.rank, f.alpha, f.family, f.dtype) for f in found} == {(4, 3.0, "sdxl", "fp16")}
    assert found[0].targets == found[1].targets == found[2].targets
    assert {f.parameters for f in found} == {adapters.parameter_count()}


def test_damaged_and_stray(tmp_path: Path) -> None:
    name = "lora_unet_mid_block_attentions_0_proj_in"
    down, up = {f"{name}.lora_down.weight": torch.ones(2, 5)}, {f"{name}.lora_up.weight": torch.ones(7, 2)}
    cases = {
        "half": (down, "lacks one"),
        "ranks": (down | {f"{name}.lora_up.weight": torch.ones(7, 3)}, "ranks 2 and 3"),
        "stray": (down | up | {"bundle_emb.x.string_to_param.*": torch.ones(2)}, "would be lost"),
    }
    for title, (tensors, says) in cases.items():
        save_file(tensors, tmp_path / f"{title}.safetensors")
        with pytest.raises(BadInput, match=says):
            read_lora(tmp_path / f"{title}.safetensors")
    save_file(down | up, tmp_path / "good.safetensors")
    with pytest.raises(BadInput, match="safetensors"):
        write.write_lora(tmp_path / "out.pt", read_lora(tmp_path / "good.safetensors"), "kohya")


def test_a_split_convolution_is_put_together(tmp_path: Path) -> None:
    """LyCORIS' `lora_mid`: 1x1, then k x k, then 1x1."""
    g = torch.Generator().manual_seed(0)
    down, mid, up = (torch.randn(s, generator=g) for s in ((3, 6, 1, 1), (3, 3, 3, 3), (5, 3, 1, 1)))
    name = "lora_unet_down_blocks_0_resnets_0_conv1"
    save_file(
        {f"{name}.lora_down.weight": down, f"{name}.lora_mid.weight": mid, f"{name}.lora_up.weight": up},
        tmp_path / "x.safetensors",
    )
    (layer,) = read_lora(tmp_path / "x.safetensors").layers
    x = torch.randn(1, 6, 9, 9, generator=g)
    conv = torch.nn.functional.conv2d
    expected = conv(conv(conv(x, down), mid, padding=1), up)
    torch.testing.assert_close(conv(x, layer.delta(), padding=1), expected, atol=1e-4, rtol=1e-4)


def test_the_diffusers_header_is_what_diffusers_writes(tmp_path: Path) -> None:
    unet = models("sd1").parts["unet"]
    assert isinstance(unet, UNet2DConditionModel)
    adapters = inject({"unet": unet}, LAYOUT, AdapterConfig(4, 2.0, "attention"), seed=0)
    file = write.write_lora(tmp_path / "d.safetensors", kohya.to_lora(adapters, "sd1"), "diffusers")
    with safe_open(file, "pt") as opened:
        config = json.loads(opened.metadata()["lora_adapter_metadata"])
    assert (config["unet.r"], config["unet.lora_alpha"]) == (4, 2)
    assert set(config["unet.target_modules"]) == set(adapters.parts["unet"])
