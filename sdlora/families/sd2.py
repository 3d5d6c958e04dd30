"""Stable Diffusion 2.x: OpenCLIP's text encoder without its last layer, linear projections in the UNet, v or epsilon."""

from __future__ import annotations

from collections.abc import Mapping

from sdlora.families import clip_unet
from sdlora.families.ldm_checkpoint import LdmModel, TextEncoder, checkpoint_layout
from sdlora.families.spec import Configs, FamilySpec, LoraLayout, LoraMetadata

_SCHEDULER = {
    **clip_unet.SCHEDULE,
    "_class_name": "DDIMScheduler",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "rescale_betas_zero_snr": False,
}


def _detect(configs: Configs) -> bool:
    unet = configs["unet"]
    return (
        clip_unet.is_plain_unet(unet)
        and not unet.get("addition_embed_type")
        and bool(unet.get("use_linear_projection", False))
    )


def _default_prediction(metadata: Mapping[str, str]) -> str:
    """At 768 pixels v, at 512 epsilon, and no weight tells which: without a word it counts as v, as in diffusers."""
    return "epsilon" if "v2-512" in metadata.get("modelspec.architecture", "") else "v_prediction"


SD2 = FamilySpec(
    name="sd2",
    title="Stable Diffusion 2.x",
    short_title="SD 2.x",
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
    encode=clip_unet.encode,  # in diffusers' layout the last layer is left out already
    predict=clip_unet.predict,
    size_unit=clip_unet.size_unit,
    lora=LoraLayout(
        targets={"unet": clip_unet.UNET_TARGETS, "text_encoder": clip_unet.TEXT_TARGETS},
        prefixes={"unet": "lora_unet_", "text_encoder": "lora_te_"},
        words=clip_unet.WORDS,
        kohya_pattern=rf"lora_unet_{clip_unet.KOHYA_UNET}|lora_te_{clip_unet.KOHYA_TEXT}",
        detect=lambda part, path, shape: clip_unet.cross_attention_width(part, path, shape) == 1024,
        layers={"unet": clip_unet.UNET_LAYERS, "text_encoder": clip_unet.TEXT_LAYERS},
        dotted_prefixes=clip_unet.DOTTED_PREFIXES,
        from_kohya=clip_unet.from_kohya,
    ),
    metadata=LoraMetadata(
        architecture={"epsilon": "stable-diffusion-v2-512/lora", "v_prediction": "stable-diffusion-v2-768-v/lora"},
        base_version={"epsilon": "sd_v2", "v_prediction": "sd_v2_v"},
        v2=True,
        implementation="diffusers",
        sidecar="SD2",
        pattern=r"sd_?v?2|stable-diffusion-v2",
    ),
    checkpoint=checkpoint_layout(
        LdmModel(
            text_encoders=(TextEncoder("text_encoder", "cond_stage_model.model.", open_clip=True, drop_last=True),),
            sample_size={"epsilon": 64, "v_prediction": 96},
            unet={"upcast_attention": True},
            scheduler=_SCHEDULER,
            default_prediction=_default_prediction,
        )
    ),
)
