"""Stable Diffusion XL: two text encoders side by side, and a UNet that is also given pooled text, sizes and crop (arXiv 2307.01952)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sdlora.families import clip_unet, ldm_names
from sdlora.families.ldm_checkpoint import LdmModel, TextEncoder, checkpoint_layout
from sdlora.families.spec import Configs, FamilySpec, LoraLayout, LoraMetadata

if TYPE_CHECKING:
    from torch import Tensor

    from sdlora.families.base_model import Base
    from sdlora.families.conditioning import Conditioning

_SCHEDULER = {**clip_unet.SCHEDULE, "_class_name": "EulerDiscreteScheduler", "rescale_betas_zero_snr": False}


def _detect(configs: Configs) -> bool:
    """The refiner has one text encoder, and an aesthetic score in place of the crop."""
    unet = configs["unet"]
    added = unet.get("addition_embed_type") == "text_time"
    return clip_unet.is_plain_unet(unet) and added and unet.get("cross_attention_dim") != 1280


def _encode(base: Base, texts: Sequence[str]) -> Conditioning:
    """The states before each encoder's last layer, side by side, and the second encoder's pooled text."""
    import torch

    from sdlora.families.conditioning import Conditioning

    states, pooled = [], {}
    for part in base.family.text_encoders:
        ids = clip_unet.tokenize(base.tokenizers[part], texts).to(base.parts[part].device)
        output = base.parts[part](ids, output_hidden_states=True)
        states.append(output.hidden_states[-2])
        if hasattr(output, "text_embeds"):  # the second encoder's
            pooled = {"pooled_prompt_embeds": output.text_embeds}
    return Conditioning({"prompt_embeds": torch.cat(states, dim=-1), **pooled})


def _predict(base: Base, x_t: Tensor, t: Tensor, text: Conditioning, sizes: Sequence[Sequence[int]]) -> Tensor:
    """`sizes` of each picture in pixels: original height and width, top and left of the crop, height and width trained at."""
    import torch

    time_ids = torch.tensor(sizes, device=base.device)
    added = {"text_embeds": text.tensors["pooled_prompt_embeds"].to(base.device), "time_ids": time_ids}
    return clip_unet.predict(base, x_t, t, text, sizes, added_cond_kwargs=added)


def _pipeline_options(base: Base) -> dict[str, Any]:
    return {"feature_extractor": None, "force_zeros_for_empty_prompt": base.zero_empty, "add_watermarker": False}


def _is_sdxl_layer(part: str, path: str, shape: Sequence[int]) -> bool:
    """Only SDXL has a second text encoder and deeper transformers."""
    deep = part == "text_encoder_2" or "transformer_blocks.1." in path
    return deep or clip_unet.cross_attention_width(part, path, shape) == 2048


def _to_kohya(part: str, path: str) -> str:
    """sd-scripts names SDXL's UNet by LDM's blocks."""
    return ldm_names.to_ldm(path, sdxl=True) if part == "unet" else path


SDXL = FamilySpec(
    name="sdxl",
    title="Stable Diffusion XL",
    short_title="SDXL",
    denoiser="unet",
    text_encoders=("text_encoder", "text_encoder_2"),
    classes={
        **clip_unet.CLASSES,
        "text_encoder_2": "transformers.CLIPTextModelWithProjection",
        "tokenizer_2": "transformers.CLIPTokenizer",
    },
    pipeline="StableDiffusionXLPipeline",
    pipeline_options=_pipeline_options,
    detect=_detect,
    prediction=clip_unet.prediction,
    resolution=clip_unet.resolution,
    fault=clip_unet.fault,
    scheduler=_SCHEDULER,
    objective=clip_unet.objective,
    encode=_encode,
    predict=_predict,
    size_unit=clip_unet.size_unit,
    zero_empty_text=True,
    lora=LoraLayout(
        targets={
            "unet": clip_unet.UNET_TARGETS,
            "text_encoder": clip_unet.TEXT_TARGETS,
            "text_encoder_2": clip_unet.TEXT_TARGETS,
        },
        prefixes={"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"},
        words=clip_unet.WORDS,
        ldm_blocks=True,
        kohya_pattern=rf"lora_unet_(input_blocks|middle_block|output_blocks)_\w+|lora_te[12]_{clip_unet.KOHYA_TEXT}",
        detect=_is_sdxl_layer,
        to_kohya=_to_kohya,
        layers={
            "unet": clip_unet.UNET_LAYERS,
            "text_encoder": clip_unet.TEXT_LAYERS,
            "text_encoder_2": clip_unet.TEXT_LAYERS,
        },
        dotted_prefixes=clip_unet.DOTTED_PREFIXES,
        from_kohya=clip_unet.from_kohya,
    ),
    metadata=LoraMetadata(
        architecture={
            "epsilon": "stable-diffusion-xl-v1-base/lora",
            "v_prediction": "stable-diffusion-xl-v1-base/lora",
        },
        base_version={"epsilon": "sdxl_base_v1-0", "v_prediction": "sdxl_base_v1-0"},
        v2=False,
        implementation="https://github.com/Stability-AI/generative-models",
        sidecar="SDXL",
        pattern=r"sdxl|stable-diffusion-xl",
    ),
    checkpoint=checkpoint_layout(
        LdmModel(
            text_encoders=(
                TextEncoder("text_encoder", "conditioner.embedders.0.transformer.", open_clip=False),
                TextEncoder("text_encoder_2", "conditioner.embedders.1.model.", open_clip=True),
            ),
            sample_size={"epsilon": 128, "v_prediction": 128},
            vae={"sample_size": 1024, "scaling_factor": 0.13025},
            scheduler=_SCHEDULER,
        )
    ),
)
