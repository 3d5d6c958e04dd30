"""SD 1.5, SD 2.1 and SDXL in their real block layouts: each trains, resumes exactly, and its file means the same in diffusers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image, ImageChops
from safetensors import safe_open
from safetensors.torch import load_file

from sdlora.families.objective import DiffusionObjective
from sdlora.lora_files.metadata import metadata
from sdlora.models.prompt import encode
from sdlora.render.renderer import DrawRequest, Renderer
from sdlora.train.batches import Sample, sample_losses
from sdlora.train.rng import draw
from tests.families import FAMILIES, assert_resumes_exactly, base_of, folder_of, ready, steps
from tests.test_lora import about
from tests.test_train import Trained

VERSION = {"sd1": "sd_v1", "sd2": "sd_v2_v", "sdxl": "sdxl_base_v1-0"}
# Attention and feed-forward layers of the real models, as sd-scripts counts them without proj_in and proj_out.
UNET, TEXT = {"sd1": 160, "sd2": 160, "sdxl": 700}, {"sd1": 72, "sd2": 138, "sdxl": 72 + 192}
SHORT: dict[str, Any] = {
    "train.steps": 1,
    "train.resolution": 16,
    "train.text_encoder_lr": 1e-2,
    "sample.prompts": "red disc",
    "sample.steps": 2,
    "lora.alpha": 64.0,
    "data.held_out": 0.0,
    "export.dtype": "fp32",
}


@pytest.fixture(scope="session")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_state_brings_back_the_same_future(layouts: Path, tmp_path: Path, family: str) -> None:
    whole = steps(ready(family, layouts, tmp_path, **{"lora.dropout": 0.1}))
    parts = {name.split(".")[0] for name in whole[2].tensors}
    assert parts == {"unet", "text_encoder"} | ({"text_encoder_2"} if family == "sdxl" else set())
    moved = sum(bool(v.any()) for k, v in whole[2].tensors.items() if k.endswith("lora_B"))
    # SDXL reads the states before the last layer: that layer of the first encoder gets no gradient, as in every trainer
    assert moved == UNET[family] + TEXT[family] - (6 if family == "sdxl" else 0)
    assert_resumes_exactly(whole, ready(family, layouts, tmp_path, **{"lora.dropout": 0.1}))


@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_draws_what_the_trainer_drew(layouts: Path, tmp_path: Path, family: str) -> None:
    """A run from pictures to file; every target under its kohya name; diffusers' own pipeline gives the trainer's samples."""
    folder = folder_of(family, layouts)
    file = Trained(tmp_path, folder, **SHORT)().file
    assert file is not None
    names = {name.split(".")[0] for name in load_file(file)}
    assert sum(name.startswith("lora_unet_") for name in names) == UNET[family]
    assert sum(name.startswith("lora_te") for name in names) == TEXT[family]
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert metadata["ss_base_model_version"] == VERSION[family]
    assert metadata["modelspec.prediction_type"] == ("v" if family == "sd2" else "epsilon")

    pipe = DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    before = _drawn(pipe)
    pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name="trained_here")
    after = _drawn(pipe)
    assert _largest_difference(before, Image.open(tmp_path / "samples/step-000000-0-000.png")) <= 1
    assert _largest_difference(after, Image.open(tmp_path / "samples/step-000001-0-100.png")) <= 1
    assert _largest_difference(before, after) > 3


def _drawn(pipe: Any) -> Image.Image:
    drawing = {"num_inference_steps": 2, "guidance_scale": 6.0, "height": 32, "width": 32}
    return pipe("red disc", generator=torch.Generator().manual_seed(0), **drawing).images[0]


def _largest_difference(a: Image.Image, b: Image.Image) -> int:
    assert a.size == b.size
    return max(high for _, high in ImageChops.difference(a, b.convert("RGB")).getextrema())


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_what_the_pipeline_makes_of_them(layouts: Path, family: str) -> None:
    """Both encoders' states before the last layer side by side, the second one's pooled text; no text is zeros."""
    base = base_of(family, layouts)
    pipe = Renderer(base).pipe
    options = {"device": base.device, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    ours, theirs = encode(base, ["red disc", ""]), pipe.encode_prompt("red disc", **options)
    torch.testing.assert_close(ours.tensors["prompt_embeds"][:1], theirs[0])
    assert theirs[0].shape[-1] == base.denoiser.config.cross_attention_dim
    if family != "sdxl":
        assert set(ours.tensors) == {"prompt_embeds"}
        torch.testing.assert_close(ours.tensors["prompt_embeds"][1:], pipe.encode_prompt("", **options)[0])
        return
    torch.testing.assert_close(ours.tensors["pooled_prompt_embeds"][:1], theirs[2])
    assert not any(value[1].any() for value in ours.tensors.values())
    assert encode(replace(base, zero_empty=False), [""]).tensors["prompt_embeds"].any()


def test_sdxl_listens_to_sizes_and_texts(layouts: Path, tmp_path: Path) -> None:
    run = ready("sdxl", layouts, tmp_path, **{"train.text_encoder_lr": 0.0, "lora.targets": "attention"})
    assert set(run.trainer.base.parts) == {"unet"}, "text encoders are gone once texts are encoded"
    x = run.trainer.items[0].latent()
    sample = Sample(x.plain, x.sizes, "red disc 0", draw(0, tuple(x.plain.shape), 1000, 0))
    others = [replace(sample, sizes=(64, 64, 8, 0, 16, 16)), replace(sample, caption="")]
    with torch.no_grad():
        a, *different = sample_losses(run.trainer, [sample, *others]).tolist()
    assert all(abs(a - b) > 1e-6 for b in different)


def test_zero_terminal_snr_trains_and_draws(layouts: Path, tmp_path: Path) -> None:
    """A last noise level without any signal: v-prediction learns there, and nothing divides by zero."""
    base = base_of("sdxl", layouts)
    base = replace(base, prediction="v_prediction", scheduler={**base.scheduler, "rescale_betas_zero_snr": True})
    objective = DiffusionObjective.of(base.scheduler, "v_prediction")
    assert base.zero_snr
    assert objective.alphas_cumprod[-1] == 0
    last = torch.tensor([999])
    x_0, noise = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2)
    assert torch.equal(objective.add_noise(x_0, noise, last), noise)
    assert torch.equal(objective.target(x_0, noise, last), -x_0)
    for prediction, weight in (("v_prediction", 0.0), ("epsilon", 1.0)):
        assert DiffusionObjective.of(base.scheduler, prediction).weight(last, 5.0).item() == weight
    assert torch.isfinite(Renderer(base).latent(DrawRequest("red disc", steps=2), 32)).all()
    told = metadata(replace(about(), zero_snr=base.zero_snr))
    assert told["ss_zero_terminal_snr"] == "True"
