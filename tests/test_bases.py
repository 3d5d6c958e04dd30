"""Bases as people have them: read as their makers meant them, or named for what they are, in both languages, before anything is loaded."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdlora.core.errors import BaseUnusable
from sdlora.models.bases import available, facts, resolve_base
from sdlora.models.load import load_base
from sdlora.models.weights import write_modified_base
from sdlora.render.renderer import DrawRequest, Renderer
from tests.layouts import Models, models, unet_config
from tests.ldm_files import make_vae, write_checkpoint
from tests.test_single_file import usable

CPU = torch.device("cpu")
Change = Callable[[Path], None]


def config(file: str, **values: Any) -> Change:
    """Set values in a configuration of a folder; None takes one out."""

    def change(folder: Path) -> None:
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        found = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({k: v for k, v in (found | values).items() if v is not None}))

    return change


def unet(**values: Any) -> Change:
    return config("unet/config.json", **values)


def scheduler(**values: Any) -> Change:
    return config("scheduler/scheduler_config.json", **values)


def vae(**values: Any) -> Change:
    return config("vae/config.json", **values)


def pipeline(name: str, denoiser: str = "transformer") -> Change:
    """A folder of another family: its class, its denoiser's configuration, and no UNet."""

    def change(folder: Path) -> None:
        config("model_index.json", _class_name=name)(folder)
        shutil.rmtree(folder / "unet")
        config(f"{denoiser}/config.json", _class_name="Other")(folder)

    return change


def all_of(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def rename_weights(old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        for file in [*folder.glob("*/*.safetensors")]:
            file.rename(file.with_name(re.sub(old, new, file.name)))

    return change


def remove(*names: str) -> Change:
    def change(folder: Path) -> None:
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


REFUSED_FOLDERS: dict[str, tuple[Change, str]] = {
    "inpainting": (unet(in_channels=9), "made for inpainting"),
    "instruct-pix2pix": (unet(in_channels=8), "made for editing"),
    "depth": (unet(in_channels=5), "takes 5 channels"),
    "latent consistency": (unet(time_cond_proj_dim=256), "LCM"),
    "playground 2.5": (scheduler(_class_name="EDMDPMSolverMultistepScheduler", sigma_data=0.5), "EDM"),
    "latents with a mean": (vae(latents_mean=[0.1] * 4, latents_std=[1.0] * 4), "EDM"),
    "flow matching": (scheduler(_class_name="FlowMatchEulerDiscreteScheduler"), "flow matching"),
    "predicts the sample": (scheduler(prediction_type="sample"), "predicts 'sample'"),
    "VAE of 16 channels": (vae(latent_channels=16), "latents of 16 channels"),
    "refiner": (unet(addition_embed_type="text_time", cross_attention_dim=1280), "refiner"),
    "Kolors": (
        all_of(config("model_index.json", _class_name="KolorsPipeline"), unet(encoder_hid_dim_type="text_proj")),
        "Kolors",
    ),
    "Kandinsky": (unet(addition_embed_type="image"), r"another kind \(image\)"),
    "SVD": (
        all_of(
            unet(_class_name="UNetSpatioTemporalConditionModel"),
            config("model_index.json", _class_name="StableVideoDiffusionPipeline"),
        ),
        "Stable Video Diffusion",
    ),
    "SD3": (pipeline("StableDiffusion3Pipeline"), "Stable Diffusion 3"),
    "Flux": (pipeline("FluxPipeline"), "Flux"),
    "pickles": (rename_weights(r"\.safetensors$", ".bin"), r"only \.safetensors"),
    "no text encoder": (remove("text_encoder", "tokenizer"), "text_encoder, tokenizer missing"),
    "no weights": (
        remove("unet/diffusion_pytorch_model.safetensors"),
        "unet/diffusion_pytorch_model.safetensors missing",
    ),
    "no index": (remove("model_index.json"), r"model_index\.json missing"),
    "no schedule": (remove("scheduler/scheduler_config.json"), "do not fit together"),
    "configuration is a list": (
        lambda folder: (folder / "unet/config.json").write_text("[]") and None,
        "do not fit together",
    ),
    "blocks are no list": (vae(block_out_channels=3), "do not fit together"),
}


@pytest.mark.parametrize("name", REFUSED_FOLDERS)
def test_a_folder_is_refused_by_name(tiny_base: Path, tmp_path: Path, name: str) -> None:
    change, words = REFUSED_FOLDERS[name]
    folder = shutil.copytree(tiny_base, tmp_path / "Some base")
    change(folder)
    with pytest.raises(BaseUnusable, match=words) as refused:
        facts(resolve_base(str(folder)))
    assert_is_a_sentence(refused.value)
    assert refused.value.text.en.startswith("Some base ")
    with pytest.raises(BaseUnusable, match=words):
        load_base(resolve_base(str(folder)), "fp32", CPU)


def assert_is_a_sentence(error: BaseUnusable) -> None:
    """What is refused by name, no library's words, nothing cut off; the Japanese is Japanese."""
    for text in (error.text.en, error.text.ja):
        assert "Error" not in text
        assert not text.rstrip("。.").endswith((":", ":"))
    assert error.text.en.endswith(".")
    assert error.text.ja.endswith("。")
    assert re.search("[ぁ-ん]", error.text.ja)


READ_FOLDERS: dict[str, Change] = {
    "fp16 only": rename_weights(r"\.safetensors$", ".fp16.safetensors"),
    "a scheduler from a package of others": scheduler(_class_name="MyScheduler", beta_start=None),
    "a scheduler that needs scipy": scheduler(_class_name="LMSDiscreteScheduler"),
    "a scheduler of another pipeline": scheduler(_class_name="VQDiffusionScheduler"),
    "another pipeline's class": config("model_index.json", _class_name="StableDiffusionControlNetPipeline"),
}


@pytest.mark.parametrize("name", READ_FOLDERS)
def test_a_folder_is_read_and_drawn(tiny_base: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "base")
    READ_FOLDERS[name](folder)
    known = facts(resolve_base(str(folder)))
    assert known is not None
    assert known.parameters("unet") > 0
    base = load_base(resolve_base(str(folder)), "fp32", CPU)
    assert base.family.objective(base.scheduler, base.prediction).snr(torch.tensor([999])) < 0.01
    assert torch.isfinite(Renderer(base).latent(DrawRequest("red disc", steps=2), 32)).all()


def test_a_base_in_fp16_files_only_is_merged_into_one_that_loads(tiny_base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "base")
    READ_FOLDERS["fp16 only"](folder)
    write_modified_base(folder, tmp_path / "out", lambda part, name, weight: weight, lambda done, total: None)
    assert load_base(resolve_base(str(tmp_path / "out")), "fp32", CPU)


def test_what_fails_half_way_leaves_no_half_base(tiny_base: Path, tmp_path: Path) -> None:
    def fail(part: str, name: str, weight: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_modified_base(tiny_base, tmp_path / "out", fail, lambda done, total: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_latents_of_any_format_become_a_picture(tiny_base: Path, precision: Any) -> None:
    """A denoiser in fp16 has its VAE in fp32, and diffusers' pipelines do not cast between them."""
    base = load_base(resolve_base(str(tiny_base)), precision, CPU)
    assert base.vae.dtype == (torch.float32 if precision == "fp16" else torch.bfloat16)
    assert Renderer(base).draw(DrawRequest("red disc", steps=2)).size == (32, 32)


def hub_cache(root: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A snapshot of `base` as owner/name in a hub cache of its own."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root))
    repository = root / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc0123")
    return shutil.copytree(base, repository / "snapshots" / "abc0123")


def test_a_half_filled_hub_cache_is_not_taken_for_a_base(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = hub_cache(tmp_path, tiny_base, monkeypatch)
    assert resolve_base("owner/name").path == snapshot
    remove("unet/diffusion_pytorch_model.safetensors")(
        snapshot
    )  # as another program leaves it that wanted the configurations
    ref = resolve_base("owner/name")
    assert ref.path is None
    assert facts(ref) is None
    with pytest.raises(BaseUnusable, match=r"owner/name is on this machine only in part \(unet/") as refused:
        load_base(ref, "fp32", CPU)
    assert_is_a_sentence(refused.value)


# What people have beside whole checkpoints: a file with this tensor alone.
OTHER_FILES = {
    "double_blocks.0.img_attn.qkv.weight": "Flux",
    "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": "Stable Diffusion 3",
    "model.diffusion_model.double_layers.0.attn.w1q.weight": "AuraFlow",
    "blocks.0.self_attn.norm_q.weight": "Wan",
    "transformer_blocks.0.img_mod.1.weight": "Qwen-Image",
    "cap_embedder.0.weight": "Z-Image or Lumina",
    "model.diffusion_model.clip_mapper.weight": "Stable Cascade",
    "conditioner.embedders.0.open_clip.model.visual.proj": "Stable Video Diffusion",
    "conditioner.embedders.0.model.token_embedding.weight": "refiner",
    "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": "it is a LoRA",
    "unet.down_blocks.0.attentions.0.proj_in.lora_A.weight": "it is a LoRA",
    "control_model.input_blocks.0.0.weight": "ControlNet",
    "emb_params": "textual inversion",
    "down_blocks.0.motion_modules.0.proj_in.weight": "motion module",
    "encoder.conv_in.weight": "it is a VAE alone",
    "first_stage_model.decoder.conv_in.weight": "it is a VAE alone",
    "model.diffusion_model.input_blocks.0.0.weight": "it is a UNet alone",
    "down_blocks.0.resnets.0.conv1.weight": "it is a UNet alone",
    "text_model.embeddings.token_embedding.weight": "it is a text encoder alone",
    "model_ema.diffusion_modelinput_blocks00weight": "averaged weights",
    "x": "no whole Stable Diffusion checkpoint",
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_a_file_that_is_no_base_is_named(tmp_path: Path, name: str) -> None:
    save_file({name: torch.zeros(4, 4)}, tmp_path / "mine.safetensors")
    with pytest.raises(BaseUnusable, match=OTHER_FILES[name]) as refused:
        resolve_base(str(tmp_path / "mine.safetensors"))
    assert_is_a_sentence(refused.value)


Tensors = dict[str, Tensor]
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."


def without(start: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {k: v for k, v in tensors.items() if not k.startswith(start)}


def adding(**extra: Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {k.replace("__", "."): v for k, v in extra.items()}


CHANGED_FILES: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "no VAE": (without(VAE), "it has no VAE"),
    "no text encoder": (without(TEXT), "text encoder is not in it"),
    "no UNet": (without(UNET), "UNet is not in it"),
    "VAE without its encoder": (without(f"{VAE}encoder."), "VAE in it is not whole"),
    "VAE under diffusers' names": (
        lambda t: {k.replace("encoder.down.", "encoder.down_blocks."): v for k, v in t.items()},
        "VAE in it is not whole",
    ),
    "VAE of 16 channels": (
        lambda t: t | {f"{VAE}decoder.conv_in.weight": torch.zeros(32, 16, 3, 3)},
        "latents of 16 channels",
    ),
    "inpainting": (lambda t: t | {f"{UNET}input_blocks.0.0.weight": torch.zeros(32, 9, 3, 3)}, "inpainting"),
    "editing": (lambda t: t | {f"{UNET}input_blocks.0.0.weight": torch.zeros(32, 8, 3, 3)}, "editing"),
    "LCM": (lambda t: t | {f"{UNET}time_embed.cond_proj.weight": torch.zeros(1)}, "LCM"),
    "EDM": (adding(edm_mean=torch.zeros(1)), "EDM"),
    "scaled fp8": (adding(scaled_fp8=torch.zeros(1)), "scaled fp8"),
    "a block is missing": (without(f"{UNET}output_blocks.5."), "do not fit together"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("whole") / "sd1.safetensors", models("sd1"), make_vae())


@pytest.mark.parametrize("name", CHANGED_FILES)
def test_a_file_that_lacks_something_is_refused_by_name(whole: Path, tmp_path: Path, name: str) -> None:
    change, words = CHANGED_FILES[name]
    save_file(change(load_file(whole)), tmp_path / "mine.safetensors")
    with pytest.raises(BaseUnusable, match=words) as refused:
        resolve_base(str(tmp_path / "mine.safetensors"))
    assert_is_a_sentence(refused.value)


def test_a_file_in_fp8_is_read_as_its_numbers_say(tmp_path: Path) -> None:
    file = usable(tmp_path)
    tensors = {k: v.to(torch.float8_e4m3fn) if k.startswith(UNET) else v for k, v in load_file(file).items()}
    save_file(tensors, file)
    base = load_base(resolve_base(str(file)), "fp32", CPU)
    wanted = tensors[f"{UNET}input_blocks.0.0.weight"].float()
    assert torch.equal(base.denoiser.conv_in.weight, wanted)
    write_modified_base(file, tmp_path / "out", lambda part, name, weight: weight, lambda done, total: None)


DISTILLED: dict[str, tuple[str, dict[str, Any]]] = {
    "SSD-1B": (
        "sdxl",
        {
            "mid_block_type": "UNetMidBlock2D",
            "transformer_layers_per_block": [1, 2, 4],
            "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
        },
    ),
    "Segmind Vega": ("sdxl", {"mid_block_type": "UNetMidBlock2D", "transformer_layers_per_block": [1, 1, 2]}),
    "small-sd": ("sd1", {"layers_per_block": 1, "mid_block_type": None}),
    "BK-SDM base": ("sd1", {"layers_per_block": 1}),
}


@pytest.mark.parametrize("gaps", [True, False])
@pytest.mark.parametrize("name", DISTILLED)
def test_a_distilled_file_is_the_unet_that_it_was_made_of(tmp_path: Path, name: str, gaps: bool) -> None:
    """Whether blocks keep the numbers of the model that they were made from, or are counted anew."""
    family, changes = DISTILLED[name]
    torch.manual_seed(5)
    small = UNet2DConditionModel(**unet_config(family) | changes).eval().requires_grad_(False)
    file = write_checkpoint(
        tmp_path / "x.safetensors", Models(family, {**models(family).parts, "unet": small}), make_vae()
    )
    if not gaps:
        save_file(_counted_anew(load_file(file)), file)
    known = facts(resolve_base(str(file)))
    assert known is not None
    assert known.family == family
    wanted = small.state_dict()
    assert known.shapes["unet"] == {k: tuple(v.shape) for k, v in wanted.items()}
    from sdlora.models.checkpoint import read_checkpoint
    from sdlora.models.checkpoint_modules import build_modules
    from sdlora.models.precision import Dtypes

    built = build_modules(read_checkpoint(file), "auto", Dtypes(torch.float32, torch.float32))["unet"].state_dict()
    assert built.keys() == wanted.keys()
    assert all(torch.equal(built[k], v) for k, v in wanted.items())


def _counted_anew(tensors: Tensors) -> Tensors:
    """Blocks numbered without gaps; an upsampler that had a number of its own joins the layer before it."""
    place = re.compile(rf"{re.escape(UNET)}(input|output)_blocks\.(\d+)\.(.+)")
    found: dict[str, set[int]] = {"input": set(), "output": set()}
    for match in filter(None, map(place.fullmatch, tensors)):
        if match[1] == "input" or match[3].startswith("0."):
            found[match[1]].add(int(match[2]))
    numbers = {side: {old: new for new, old in enumerate(sorted(olds))} for side, olds in found.items()}
    result: Tensors = {}
    for name, value in tensors.items():
        if match := place.fullmatch(name):
            old = int(match[2])
            new = numbers[match[1]].get(old, numbers[match[1]].get(old - 1))
            name = f"{UNET}{match[1]}_blocks.{new}.{match[3]}"
        result[name] = value
    return result


def test_thirty_bases_are_listed_at_once(
    tiny_base: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with files among them that are none."""
    for k in range(10):
        shutil.copytree(tiny_base, tmp_path / f"folder-{k}")
        shutil.copyfile(whole, tmp_path / f"file-{k}.safetensors")
        save_file({list(OTHER_FILES)[k]: torch.zeros(1)}, tmp_path / f"other-{k}.safetensors")
    monkeypatch.setenv("SDLORA_BASES", str(tmp_path))
    began = time.monotonic()
    names = available()
    assert time.monotonic() - began < 1
    assert len(names) == 21
    assert all(facts(resolve_base(name)) for name in names)
