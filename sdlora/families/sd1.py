"""Stable Diffusion 1.x: one CLIP text encoder, 64 x 64 latents, epsilon."""

from __future__ import annotations

from sdlora.families import clip_unet
from sdlora.families.ldm_checkpoint import LdmModel, TextEncoder, checkpoint_layout
from sdlora.families.spec import Configs, FamilySpec, LoraLayout, LoraMetadata

_SCHEDULER = {**clip_unet.SCHEDULE, "_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False}


def _detect(configs: Configs) -> bool:
    unet = configs["unet"]
    return (
        clip_unet.is_plain_unet(unet)
        and not unet.get("addition_embed_type")
        and not unet.get("use_linear_projection", False)
    )


SD1 = FamilySpec(
    name="sd1",
    title="Stable Diffusion 1.x",
    short_title="SD 1.x",
    denoiser="unet",
    text_encoders=("text_encoder",),
    classes=clip_unet.CLASSES,
    pipeline="StableDiffusionPipeline",
    pipeline_options=clip_unet.without_safety_checker,
    detect=_detect,
    prediction=clip_unet.prediction,
    resolution=clip_unet.resolution,
    fault=clip_unet.fault,
    scheduler=_SCHEDULER,
    objective=clip_unet.objective,
    encode=clip_unet.encode,
    predict=clip_unet.predict,
    size_unit=clip_unet.size_unit,
    lora=LoraLayout(
        targets={"unet": clip_unet.UNET_TARGETS, "text_encoder": clip_unet.TEXT_TARGETS},
        prefixes={"unet": "lora_unet_", "text_encoder": "lora_te_"},
        words=clip_unet.WORDS,
        kohya_pattern=rf"lora_unet_{clip_unet.KOHYA_UNET}|lora_te_{clip_unet.KOHYA_TEXT}",
        detect=lambda part, path, shape: clip_unet.cross_attention_width(part, path, shape) == 768,
        layers={"unet": clip_unet.UNET_LAYERS, "text_encoder": clip_unet.TEXT_LAYERS},
        dotted_prefixes=clip_unet.DOTTED_PREFIXES,
        from_kohya=clip_unet.from_kohya,
    ),
    metadata=LoraMetadata(
        architecture={"epsilon": "stable-diffusion-v1/lora", "v_prediction": "stable-diffusion-v1/lora"},
        base_version={"epsilon": "sd_v1", "v_prediction": "sd_v1"},
        v2=False,
        implementation="diffusers",
        sidecar="SD1",
        pattern=r"sd_?v?1|stable-diffusion-v1",
    ),
    checkpoint=checkpoint_layout(
        LdmModel(
            text_encoders=(TextEncoder("text_encoder", "cond_stage_model.transformer.", open_clip=False),),
            sample_size={"epsilon": 64, "v_prediction": 64},
            heads=8,
            scheduler=_SCHEDULER,
        )
    ),
)
