"""Checkpoints in one file, LDM layout: the same tensors as the diffusers model they were made of, with no network and no config files."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sdlora.core.errors import BaseUnusable
from sdlora.families import FAMILIES as FAMILIES_BY_NAME
from sdlora.models import checkpoint, checkpoint_modules
from sdlora.models.bases import available, facts, resolve_base
from sdlora.models.fingerprint import fingerprint
from sdlora.models.load import load_base
from sdlora.models.tokenizer import from_bpe
from sdlora.render.renderer import DrawRequest, Renderer
from tests.layouts import LENGTH, Models, models, text_encoder, unet_config
from tests.ldm_files import make_vae, write_checkpoint
from tests.test_train import Trained
from tests.tiny import make_tokenizer

FAMILIES = ("sd1", "sd2", "sdxl")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-cache"))


def as_diffusers_has_it(part: str, model: nn.Module) -> dict[str, torch.Tensor]:
    start = "text_model." if part.startswith("text_encoder") else ""
    return {
        k if k.startswith(("text_model.", "text_projection.")) else start + k: v for k, v in model.state_dict().items()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_comes_back(tmp_path: Path, family: str) -> None:
    made, vae = models(family), make_vae()
    found = checkpoint.read_checkpoint(write_checkpoint(tmp_path / "x.safetensors", made, vae))
    assert found.family.name == family
    converted = checkpoint_modules.checkpoint_tensors(found)
    assert set(converted) == {"vae", *made.parts}
    for part, model in (("vae", vae), *made.parts.items()):
        expected = as_diffusers_has_it(part, model)
        assert converted[part].keys() == expected.keys(), part
        assert all(torch.equal(converted[part][k], expected[k]) for k in expected), part
    shapes = checkpoint.checkpoint_shapes(found)
    for part in made.parts:
        named = {k: tuple(v.shape) for k, v in as_diffusers_has_it(part, made.parts[part]).items()}
        assert {k: shapes[part].get(k) for k in named if ".layers." in k or "blocks." in k} == {
            k: v for k, v in named.items() if ".layers." in k or "blocks." in k
        }


@pytest.mark.parametrize("family", FAMILIES)
def test_configs_are_those_of_the_model(tmp_path: Path, family: str) -> None:
    made = models(family)
    found = checkpoint.read_checkpoint(write_checkpoint(tmp_path / "x.safetensors", made, make_vae()))
    config = checkpoint.checkpoint_configs(found)["unet"]
    real = made.parts["unet"].config
    for name in ("block_out_channels", "down_block_types", "up_block_types", "cross_attention_dim"):
        assert list(config[name]) == list(real[name]) if name != "cross_attention_dim" else config[name] == real[name]
    assert config["use_linear_projection"] == real["use_linear_projection"]
    if family == "sdxl":
        assert config["transformer_layers_per_block"] == list(real["transformer_layers_per_block"])
        assert config["addition_time_embed_dim"] == real["addition_time_embed_dim"]


def usable(folder: Path, family: str = "sd1", **more: object) -> Path:
    """A checkpoint with a tokenizer beside it."""
    tokenizer = make_tokenizer(folder / "tokenizer")
    torch.manual_seed(2)
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    config = unet_config(family, (32, 32, 32, 32))
    heads = 8 if family == "sd1" else [1] * 4
    unet = UNet2DConditionModel(**(config | {"attention_head_dim": heads}))
    encoder_config = text_encoder("text_encoder", 12 if family == "sd1" else 23).config
    encoder_config.vocab_size, encoder_config.num_attention_heads, encoder_config.eos_token_id = len(tokenizer), 1, 2
    encoder_config.max_position_embeddings = 32
    encoder_config.hidden_act = "quick_gelu" if family == "sd1" else "gelu"
    made = Models(family, {"unet": unet.eval(), "text_encoder": CLIPTextModel(encoder_config).eval()})
    return write_checkpoint(folder / "mine.safetensors", made, make_vae(), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_a_file_is_a_base(tmp_path: Path, family: str) -> None:
    file = usable(tmp_path, family)
    ref = resolve_base(str(file))
    known = facts(ref)
    assert known is not None
    assert (known.family, known.prediction) == (family, "epsilon" if family == "sd1" else "v_prediction")
    base = load_base(ref, "fp32", CPU)
    assert known.parameters("unet") == sum(p.numel() for p in base.denoiser.parameters())
    assert (base.family.name, base.prediction, base.resolution) == (family, known.prediction, known.resolution)
    assert base.tokenizers["text_encoder"].pad_token == ("!" if family == "sd2" else "<|endoftext|>")
    latent = Renderer(base).latent(DrawRequest("red disc", steps=2, guidance=1.0), 32)
    assert torch.isfinite(latent).all()


def test_the_loaded_model_says_what_the_first_one_said(tmp_path: Path) -> None:
    file = usable(tmp_path)
    base = load_base(resolve_base(str(file)), "fp32", CPU)
    again = Models("sd1", {"unet": base.denoiser, "text_encoder": base.parts["text_encoder"]})
    assert torch.isfinite(again.outputs()["unet"]).all()
    states = checkpoint_modules.checkpoint_tensors(checkpoint.read_checkpoint(file))
    own = {f"text_model.{k}": v for k, v in base.parts["text_encoder"].state_dict().items()}
    assert all(torch.equal(own[k], v) for k, v in states["text_encoder"].items())
    assert all(torch.equal(base.denoiser.state_dict()[k], v) for k, v in states["unet"].items())
    assert base.tokenizers["text_encoder"].model_max_length >= LENGTH


def test_training_on_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # samples of 512 pixels would take minutes
    monkeypatch.setitem(FAMILIES_BY_NAME, "sd1", replace(FAMILIES_BY_NAME["sd1"], resolution=lambda configs: 32))
    trained = Trained(tmp_path, usable(tmp_path), **{"train.steps": 2, "sample.steps": 1, "train.resolution": 16})
    result = trained()
    assert result.finished
    assert result.certificate is not None
    assert "loads in diffusers" in result.certificate.en


@pytest.mark.parametrize(
    ("family", "extra", "metadata", "prediction"),
    [
        ("sd1", {}, None, "epsilon"),
        ("sd1", {"v_pred": torch.zeros(1)}, None, "v_prediction"),
        ("sd2", {}, None, "v_prediction"),
        ("sd2", {}, {"modelspec.architecture": "stable-diffusion-v2-512"}, "epsilon"),
        ("sd2", {}, {"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ("sdxl", {"v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}, None, "v_prediction"),
    ],
)
def test_v_prediction_is_recognised(
    tmp_path: Path, family: str, extra: dict[str, torch.Tensor], metadata: dict[str, str] | None, prediction: str
) -> None:
    file = write_checkpoint(tmp_path / "x.safetensors", models(family), make_vae(), extra, metadata)
    found = checkpoint.read_checkpoint(file)
    assert found.prediction == prediction
    scheduler = checkpoint.checkpoint_configs(found)["scheduler"]
    assert scheduler["prediction_type"] == prediction
    assert scheduler.get("rescale_betas_zero_snr", False) == ("ztsnr" in extra)
    assert checkpoint.checkpoint_configs(found, "epsilon")["scheduler"]["prediction_type"] == "epsilon"


def test_refusals_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = usable(tmp_path)
    shutil.rmtree(tmp_path / "tokenizer")
    with pytest.raises(BaseUnusable, match="needs CLIP's tokenizer"):
        load_base(resolve_base(str(file)), "fp32", CPU)
    (tmp_path / "old.ckpt").write_bytes(b"x")
    with pytest.raises(BaseUnusable, match=r"only \.safetensors"):
        resolve_base(str(tmp_path / "old.ckpt"))
    xl = write_checkpoint(tmp_path / "xl.safetensors", models("sdxl"), make_vae())
    known = facts(resolve_base(str(xl)))
    assert known is not None
    assert (known.family, set(known.shapes)) == ("sdxl", {"unet", "text_encoder", "text_encoder_2"})
    from safetensors.torch import save_file

    edm = write_checkpoint(tmp_path / "edm.safetensors", models("sd1"), make_vae(), {"edm_mean": torch.zeros(1)})
    with pytest.raises(BaseUnusable, match="EDM"):
        resolve_base(str(edm))
    save_file({"model.diffusion_model.x": torch.zeros(1)}, tmp_path / "part.safetensors")
    with pytest.raises(BaseUnusable, match="no whole"):
        resolve_base(str(tmp_path / "part.safetensors"))
    monkeypatch.setenv("SDLORA_BASES", str(tmp_path))
    assert available() == ["emoji", "mine.safetensors", "xl.safetensors"]
    assert resolve_base("mine").source == str(file)


def test_fingerprints_of_files_tell_them_apart(tmp_path: Path) -> None:
    file = usable(tmp_path)
    before = fingerprint(file)
    assert before == fingerprint(file, "vae")
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    assert fingerprint(file) != before


def test_a_tokenizer_from_openais_list_of_merges(tmp_path: Path) -> None:
    """As the packages open_clip and clip carry it; the order of the vocabulary decides what every token means."""
    merges = ["c a", "ca t</w>", "d o", "do g</w>"]
    (tmp_path / "bpe.gz").write_bytes(gzip.compress("\n".join(["#version", *merges]).encode()))
    tokenizer = from_bpe(tmp_path / "bpe.gz", model_max_length=8)
    assert (tokenizer.convert_tokens_to_ids("!"), tokenizer.convert_tokens_to_ids("!</w>")) == (0, 256)
    assert tokenizer.convert_tokens_to_ids("a") == 64
    start, end = 512 + len(merges), 513 + len(merges)
    assert tokenizer("cat dog").input_ids == [start, 513, 515, end]
