"""A family of another make than those in the package: a small transformer that is trained by flow matching. It stands for what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from sdlora.families.autoencoder import downscaling
from sdlora.families.base_model import Base
from sdlora.families.clip_unet import KOHYA_TEXT, TEXT_TARGETS, tokenize
from sdlora.families.conditioning import Conditioning
from sdlora.families.spec import FamilySpec, LoraLayout, LoraMetadata
from tests.tiny import make_tokenizer

WIDTH, LAYERS = 32, 2
_ATTENTION = r"attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj)"
_FF = r"ff(_context)?\.net\.(0\.proj|2)"


@dataclass(frozen=True)
class FlowObjective:
    """Rectified flow (arXiv 2209.03003): x_t = (1 - t) x_0 + t ε, and the network predicts the velocity ε - x_0."""

    timesteps: int

    def add_noise(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return torch.lerp(x_0, noise, self._at(t))

    def target(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return noise - x_0

    def predict_x0(self, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
        return x_t - self._at(t) * output

    def target_for_x0(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return (x_t - x_0) / self._at(t)

    def snr(self, t: Tensor) -> Tensor:
        at = self._at(t).flatten()
        return ((1 - at) / at).square()

    def weight(self, t: Tensor, gamma: float, high_noise: float = 0.0) -> Tensor:
        return torch.ones(len(t))

    def _at(self, t: Tensor) -> Tensor:
        return ((t + 1) / self.timesteps).view(-1, 1, 1, 1)


def encode(base: Base, texts: Sequence[str]) -> Conditioning:
    ids = tokenize(base.tokenizers["text_encoder"], texts).to(base.device)
    output = base.parts["text_encoder"](ids, output_hidden_states=True)
    return Conditioning({"prompt_embeds": output.hidden_states[-2], "pooled_prompt_embeds": output.text_embeds})


def predict(base: Base, x_t: Tensor, t: Tensor, text: Conditioning, sizes: Sequence[Sequence[int]]) -> Tensor:
    output: Tensor = base.denoiser(
        x_t.to(base.device, base.dtype),
        timestep=(t + 1).to(base.device),
        encoder_hidden_states=text.tensors["prompt_embeds"],
        pooled_projections=text.tensors["pooled_prompt_embeds"],
        return_dict=False,
    )[0]
    return output


def pipeline_options(base: Base) -> dict[str, Any]:
    return dict.fromkeys(("text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3"))


DUMMY = FamilySpec(
    name="dummy",
    title="Dummy",
    short_title="Dummy",
    denoiser="transformer",
    text_encoders=("text_encoder",),
    classes={
        "transformer": "diffusers.SD3Transformer2DModel",
        "vae": "diffusers.AutoencoderKL",
        "text_encoder": "transformers.CLIPTextModelWithProjection",
        "tokenizer": "transformers.CLIPTokenizer",
    },
    pipeline="StableDiffusion3Pipeline",
    pipeline_options=pipeline_options,
    detect=lambda configs: configs["transformer"]["_class_name"] == "SD3Transformer2DModel",
    prediction=lambda configs: "flow",
    resolution=lambda configs: configs["transformer"]["sample_size"] * downscaling(configs["vae"]),
    fault=lambda configs: None,
    scheduler={"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000},
    objective=lambda scheduler, prediction: FlowObjective(scheduler["num_train_timesteps"]),
    encode=encode,
    predict=predict,
    size_unit=lambda configs: downscaling(configs["vae"]) * configs["transformer"]["patch_size"],
    lora=LoraLayout(
        targets={
            "transformer": {
                "attention": rf".*\.{_ATTENTION}",
                "attention+ff": rf".*\.({_ATTENTION}|{_FF})",
                "attention+ff+conv": rf".*\.({_ATTENTION}|{_FF})",
            },
            "text_encoder": TEXT_TARGETS,
        },
        prefixes={"transformer": "lora_transformer_", "text_encoder": "lora_te1_"},
        words=(
            "transformer_blocks",
            "to_q",
            "to_k",
            "to_v",
            "to_out",
            "add_q_proj",
            "add_k_proj",
            "add_v_proj",
            "ff_context",
        ),
        kohya_pattern=rf"lora_transformer_transformer_blocks_\d+_\w+|lora_te1_{KOHYA_TEXT}",
        detect=lambda part, path, shape: part == "transformer",
        diffusers_reads_kohya=False,
    ),
    metadata=LoraMetadata(
        architecture={"flow": "dummy-transformer/lora"},
        base_version={"flow": "dummy_v1"},
        v2=False,
        implementation="diffusers",
        sidecar="Dummy",
        pattern="dummy",
    ),
)


def make_folder(folder: Path) -> Path:
    """A random base of the family in diffusers layout, for pictures of 32 pixels."""
    torch.manual_seed(21)
    tokenizer = make_tokenizer(folder.with_name(f"{folder.name}-tokenizer"))
    text_encoder = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=32,
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=8,
        scaling_factor=1.5,
        shift_factor=0.06,
    )
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=8,
        out_channels=8,
        num_layers=LAYERS,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=WIDTH,
        pos_embed_max_size=16,
    )
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.1)
    StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        **pipeline_options(None),  # type: ignore[arg-type]
    ).save_pretrained(folder)
    return folder
