"""Bases in one `.safetensors` file in LDM layout: parts, configurations and shapes by the names and shapes of the file's tensors.

What shapes do not tell (head sizes, activation, schedule) is each family's, in `LdmModel`. No torch, no network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from sdlora.core.text import Text
from sdlora.families import refusals
from sdlora.families.ldm_unet import find_blocks, unet_config
from sdlora.families.spec import CheckpointLayout, Config, Configs, Part, Shapes, canonical_path

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")
UNET, VAE = "model.diffusion_model.", "first_stage_model."
_OPENCLIP = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_HEAD = 64  # width of a head in OpenAI's and OpenCLIP's encoders


@dataclass(frozen=True)
class TextEncoder:
    """Where a file keeps a text encoder."""

    part: Part
    prefix: str
    open_clip: bool  # OpenCLIP's names, with query, key and value in one matrix; else transformers'
    drop_last: bool = False  # the states before the last layer are read, which diffusers therefore leaves out

    def layers(self, shapes: Shapes) -> int:
        count = _count(shapes, re.escape(self.prefix) + r"transformer\.resblocks\.(\d+)\.")
        return count - self.drop_last


@dataclass(frozen=True)
class LdmModel:
    """What a family adds to what the shapes say; the dicts complete diffusers' configurations."""

    text_encoders: tuple[TextEncoder, ...]
    sample_size: Mapping[str, int]  # by prediction type
    scheduler: Config  # as in the family's published folders
    heads: int | None = None  # of each attention; None = as many as have a width of 64
    unet: Config = field(default_factory=dict)
    vae: Config = field(default_factory=lambda: {"sample_size": 512, "scaling_factor": 0.18215})
    default_prediction: Callable[[Mapping[str, str]], str] = lambda metadata: "epsilon"


def checkpoint_layout(model: LdmModel) -> CheckpointLayout:
    return CheckpointLayout(
        detect=partial(_detect, model),
        fault=_fault,
        prediction=partial(_prediction, model),
        configs=partial(_configs, model),
        shapes=partial(_diffusers_shapes, model),
        tensors=partial(_diffusers_tensors, model),
        vae_prefix=VAE,
        padding={e.part: "!" for e in model.text_encoders if e.open_clip},
    )


def _detect(model: LdmModel, shapes: Shapes) -> bool:
    return all(_has(shapes, prefix) for prefix in (UNET, VAE, *(e.prefix for e in model.text_encoders)))


def _fault(shapes: Shapes) -> Text | None:
    if any(name.endswith(("scaled_fp8", ".scale_weight", ".weight_scale")) for name in shapes):
        return refusals.SCALED_FP8
    if any(name.startswith("edm_") for name in shapes):  # CosXL, Playground 2.5: trained on noise by another formula
        return refusals.EDM
    if (channels := shapes.get(f"{UNET}input_blocks.0.0.weight", (0, 4))[1]) != 4:
        return refusals.channels(channels)
    if f"{UNET}time_embed.cond_proj.weight" in shapes:
        return refusals.GUIDANCE_DISTILLED
    if any(f"{VAE}{name}" not in shapes for name in ("encoder.down.0.block.0.conv1.weight", "decoder.conv_in.weight")):
        return refusals.VAE_NOT_WHOLE
    if (channels := shapes[f"{VAE}decoder.conv_in.weight"][1]) != 4:
        return refusals.vae_channels(channels)
    return None


def _has(shapes: Shapes, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in shapes)


def _prediction(model: LdmModel, shapes: Shapes, metadata: Mapping[str, str]) -> str:
    """The `v_pred` key that v-prediction checkpoints carry, else ModelSpec's word, else the family's usual."""
    if "v_pred" in shapes:
        return "v_prediction"
    if word := metadata.get("modelspec.prediction_type"):
        return "v_prediction" if word.startswith("v") else "epsilon"
    return model.default_prediction(metadata)


def _configs(model: LdmModel, shapes: Shapes, prediction: str) -> dict[str, Config]:
    scheduler = model.scheduler | {"prediction_type": prediction}
    if "rescale_betas_zero_snr" in scheduler:
        scheduler["rescale_betas_zero_snr"] = "ztsnr" in shapes
    parts = {"unet": _unet(model, shapes, prediction), "vae": _vae(model, shapes), "scheduler": scheduler}
    for encoder in model.text_encoders:
        parts[encoder.part] = (_open_clip if encoder.open_clip else _clip)(encoder, shapes)
    return parts


def _unet(model: LdmModel, shapes: Shapes, prediction: str) -> Config:
    inside = _inside(shapes, UNET)
    config: Config = {
        "sample_size": model.sample_size[prediction],
        **unet_config(inside, find_blocks(inside), model.heads),
        "upcast_attention": False,
        **model.unet,
    }
    if "label_emb.0.0.weight" in inside:  # a UNet that is given sizes and pooled text
        text = shapes[model.text_encoders[-1].prefix + "text_projection"][1]
        joined = inside["label_emb.0.0.weight"][1]
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (joined - text) // 6,  # six sizes beside the pooled text
            "projection_class_embeddings_input_dim": joined,
        }
    return config


def _inside(tensors: dict[str, Value], prefix: str) -> dict[str, Value]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _vae(model: LdmModel, shapes: Shapes) -> Config:
    channels: list[int] = []
    while (name := f"{VAE}encoder.down.{len(channels)}.block.0.conv1.weight") in shapes:
        channels.append(shapes[name][0])
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "latent_channels": shapes[VAE + "decoder.conv_in.weight"][1],
        "layers_per_block": 2,
        "force_upcast": True,
        **model.vae,
    }


def _clip(encoder: TextEncoder, shapes: Shapes) -> Config:
    start = encoder.prefix + ("text_model." if _has(shapes, encoder.prefix + "text_model.") else "")
    return _text_config(
        shapes[start + "embeddings.token_embedding.weight"],
        shapes[start + "embeddings.position_embedding.weight"][0],
        shapes[start + "encoder.layers.0.mlp.fc1.weight"][0],
        _count(shapes, re.escape(start) + r"encoder\.layers\.(\d+)\."),
        "quick_gelu",
    )


def _open_clip(encoder: TextEncoder, shapes: Shapes) -> Config:
    return _text_config(
        shapes[encoder.prefix + "token_embedding.weight"],
        shapes[encoder.prefix + "positional_embedding"][0],
        shapes[encoder.prefix + "transformer.resblocks.0.mlp.c_fc.weight"][0],
        encoder.layers(shapes),
        "gelu",
    )


def _text_config(embedding: tuple[int, ...], positions: int, inner: int, layers: int, activation: str) -> Config:
    tokens, width = embedding
    return {
        "vocab_size": tokens,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // _HEAD),
        "max_position_embeddings": positions,
        "projection_dim": width,
        "hidden_act": activation,
        "eos_token_id": 2,  # as in the published configs: the pooled text is at the largest token id
    }


def _diffusers_shapes(model: LdmModel, shapes: Shapes) -> dict[Part, Shapes]:
    parts: dict[Part, Shapes] = {"unet": _renamed_unet(_inside(shapes, UNET))}
    for encoder in model.text_encoders:
        inside = _inside(shapes, encoder.prefix)
        parts[encoder.part] = _open_clip_shapes(inside, encoder.layers(shapes)) if encoder.open_clip else inside
    return parts


def _renamed_unet(tensors: dict[str, Value]) -> dict[str, Value]:
    """By diffusers' names; what its UNet has no place for is left out."""
    blocks = find_blocks(tensors)
    names = {name: blocks.rename(name) for name in tensors}
    return {new: tensors[name] for name, new in names.items() if new}


def _open_clip_shapes(inside: Shapes, layers: int) -> Shapes:
    """OpenCLIP keeps query, key and value in one matrix."""
    shapes: Shapes = {}
    for name, shape in inside.items():
        block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)", name)
        packed = re.fullmatch(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)", name)
        if packed and int(packed[1]) < layers:
            for one in ("q_proj", "k_proj", "v_proj"):
                where = f"text_model.encoder.layers.{packed[1]}.self_attn.{one}.{packed[2]}"
                shapes[where] = (shape[0] // 3, *shape[1:])
        elif block and int(block[1]) < layers:
            shapes[f"text_model.encoder.layers.{block[1]}.{_OPENCLIP[block[2]]}.{block[3]}"] = shape
        elif not block and not packed and name != "logit_scale":
            shapes[name] = shape
    return shapes


def _diffusers_tensors(model: LdmModel, whole: dict[str, Tensor], configs: Configs) -> dict[str, dict[str, Tensor]]:
    """VAE and text encoders are converted by diffusers' own functions; nothing is downloaded."""
    from diffusers.loaders import single_file_utils as convert

    parts: dict[str, Any] = {
        "unet": _renamed_unet(_inside(whole, UNET)),
        "vae": convert.convert_ldm_vae_checkpoint(whole, dict(configs["vae"])),
    }
    for encoder in model.text_encoders:
        if encoder.open_clip:
            size = SimpleNamespace(config=SimpleNamespace(hidden_size=configs[encoder.part]["hidden_size"]))
            inside = convert.convert_open_clip_checkpoint(size, whole, prefix=encoder.prefix)
        else:
            inside = convert.convert_ldm_clip_checkpoint(
                {k: v for k, v in whole.items() if k.startswith(encoder.prefix)}
            )
        named = {canonical_path(encoder.part, k): v for k, v in inside.items()}
        outside = ("position_ids",) if encoder.part == "text_encoder_2" else ("position_ids", "text_projection.weight")
        parts[encoder.part] = {
            k: v for k, v in named.items() if not k.endswith(outside) and k != "text_model.logit_scale"
        }
    return parts


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers the pattern's group takes at the start of names."""
    start = re.compile(pattern)
    return len({found[1] for name in shapes if (found := start.match(name))})
