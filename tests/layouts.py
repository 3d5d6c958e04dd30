"""Random models with the real block layouts of SD 1.5, SD 2.1 and SDXL at tiny widths."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from sdlora.families import FAMILIES
from tests.tiny import make_tokenizer

LAYOUT = FAMILIES["sdxl"].lora  # it has the parts and the targets of all three

WIDTHS = {"sd1": (32, 64, 96, 96), "sd2": (32, 64, 96, 96), "sdxl": (32, 64, 96)}
TEXT_LAYERS = {"sd1": (12,), "sd2": (23,), "sdxl": (12, 32)}
TEXT_WIDTH, TEXT_WIDTH_2, TOKENS, LENGTH = 32, 48, 514, 32  # as many tokens as `make_tokenizer` has


@dataclass
class Models:
    """The parts of a base that a LoRA acts on."""

    family: str
    parts: dict[str, nn.Module]  # unet, text_encoder, text_encoder_2

    def copy(self) -> Models:
        return Models(self.family, {k: copy.deepcopy(v) for k, v in self.parts.items()})

    @torch.no_grad()
    def outputs(self) -> dict[str, Tensor]:
        """What each part says to one fixed input; the UNet reads a fixed text, so that parts are compared one by one."""
        g = torch.Generator().manual_seed(5)
        ids = torch.randint(0, TOKENS, (2, LENGTH), generator=g)
        unet: Any = self.parts["unet"]
        text = torch.randn(2, LENGTH, unet.config.cross_attention_dim, generator=g)
        noisy, t = torch.randn(2, 4, 16, 16, generator=g), torch.tensor([3, 700])
        added = {"text_embeds": torch.randn(2, TEXT_WIDTH_2, generator=g), "time_ids": torch.ones(2, 6)}
        more = {"added_cond_kwargs": added} if self.family == "sdxl" else {}
        found = {"unet": unet(noisy, t, text, **more).sample}
        for part in ("text_encoder", "text_encoder_2"):
            if part in self.parts:
                said = self.parts[part](ids, output_hidden_states=True)
                found[part] = said.hidden_states[-2]
                found[f"{part}.last"] = said.last_hidden_state
        return found

    def pipeline(self) -> Any:
        """Around these very models, for diffusers' own LoRA loader."""
        vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
        both = {
            "vae": vae,
            "tokenizer": None,
            "scheduler": DDIMScheduler(steps_offset=1, clip_sample=False),
            **self.parts,
        }
        if self.family == "sdxl":
            return StableDiffusionXLPipeline(tokenizer_2=None, add_watermarker=False, **both)
        return StableDiffusionPipeline(
            safety_checker=None, feature_extractor=None, requires_safety_checker=False, **both
        )


@cache
def _made(family: str) -> Models:
    torch.manual_seed(11)
    parts: dict[str, nn.Module] = {"unet": UNet2DConditionModel(**unet_config(family))}
    sizes = zip(("text_encoder", "text_encoder_2"), TEXT_LAYERS[family], strict=False)
    for part, layers in sizes:
        parts[part] = text_encoder(part, layers)
    for model in parts.values():
        model.eval().requires_grad_(False)
    return Models(family, parts)


def models(family: str) -> Models:
    return _made(family).copy()


def unet_config(family: str, widths: tuple[int, ...] | None = None) -> dict[str, Any]:
    config: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": widths or WIDTHS[family],
        "cross_attention_dim": TEXT_WIDTH + (TEXT_WIDTH_2 if family == "sdxl" else 0),
        "attention_head_dim": 8 if family == "sd1" else [2, 4, 4, 4] if family == "sd2" else [1, 2, 4],
        "use_linear_projection": family != "sd1",
    }
    if family == "sdxl":
        config |= {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": [1, 2, 10],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": TEXT_WIDTH_2 + 6 * 8,
        }
    return config


# What diffusers' published folders draw with, and what their configs say beside the schedule.
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sd1": (PNDMScheduler, {"skip_prk_steps": True, "set_alpha_to_one": False}),
    "sd2": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}),
    "sdxl": (EulerDiscreteScheduler, {"timestep_spacing": "leading"}),
}


def make_folder(folder: Path, family: str, prediction: str = "epsilon", **scheduler: Any) -> Path:
    """A whole base in diffusers layout that draws noise of 32 pixels."""
    made = models(family)
    torch.manual_seed(12)
    kind, more = SCHEDULERS[family]
    parts: dict[str, Any] = {
        **made.parts,
        "vae": AutoencoderKL(
            block_out_channels=(8, 16),
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
        ),
        "scheduler": kind(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            prediction_type=prediction,
            **{**more, **scheduler},
        ),
    }
    for part in made.parts:
        if part != "unet":
            name = part.replace("text_encoder", "tokenizer")
            parts[name] = make_tokenizer(folder.with_name(f"{folder.name}-{name}"))
    if family == "sdxl":
        StableDiffusionXLPipeline(add_watermarker=False, **parts).save_pretrained(folder)
    else:
        without = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        StableDiffusionPipeline(**parts, **without).save_pretrained(folder)
    return folder


def text_encoder(part: str, layers: int) -> nn.Module:
    width = TEXT_WIDTH_2 if part == "text_encoder_2" else TEXT_WIDTH
    config = CLIPTextConfig(
        vocab_size=TOKENS,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        projection_dim=width,
        bos_token_id=TOKENS - 2,
        eos_token_id=TOKENS - 1,
    )
    return CLIPTextModelWithProjection(config) if part == "text_encoder_2" else CLIPTextModel(config)
