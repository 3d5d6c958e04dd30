"""Writes a model with a real block layout as a checkpoint in LDM layout: the way back that the package does not have."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor, nn

from sdlora.families import ldm_names
from tests.layouts import Models

_VAE = [
    (r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)", r"encoder.down.\1.block.\2"),
    (r"encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample"),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
    (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
    (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
    ("conv_shortcut", "nin_shortcut"),
    ("conv_norm_out", "norm_out"),
]
_BLOCK = {"self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2"}
_BLOCK |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
_OUTSIDE = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}


def make_vae() -> AutoencoderKL:
    torch.manual_seed(3)
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(block_out_channels=(32, 32), layers_per_block=2, latent_channels=4, **kinds).eval()


def write_checkpoint(
    file: Path,
    models: Models,
    vae: nn.Module,
    extra: dict[str, Tensor] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    family, found = models.family, dict(extra or {})
    for name, tensor in models.parts["unet"].state_dict().items():
        found["model.diffusion_model." + ldm_names.to_ldm(name, family == "sdxl")] = tensor
    for name, tensor in vae.state_dict().items():
        found["first_stage_model." + _vae_name(name)] = _as_conv(name, tensor)
    first = {k.removeprefix("text_model."): v for k, v in models.parts["text_encoder"].state_dict().items()}
    if family == "sd2":
        found |= _open_clip("cond_stage_model.model.", first, 24)
    else:
        start = "cond_stage_model.transformer." if family == "sd1" else "conditioner.embedders.0.transformer."
        found |= {f"{start}text_model.{k}": v for k, v in first.items()}
    if family == "sdxl":
        second = {k.removeprefix("text_model."): v for k, v in models.parts["text_encoder_2"].state_dict().items()}
        found |= _open_clip("conditioner.embedders.1.model.", second, 32)
    save_file({k: v.contiguous().clone() for k, v in found.items()}, file, metadata)
    return file


def _vae_name(name: str) -> str:
    if up := re.fullmatch(r"decoder\.up_blocks\.(\d+)\.(?:resnets\.(\d+)|upsamplers\.0)\.(.+)", name):
        place = f"block.{up[2]}" if up[2] else "upsample"
        name = f"decoder.up.{1 - int(up[1])}.{place}.{up[3]}"
    for ours, theirs in _VAE:
        name = re.sub(ours, theirs, name)
    return name


def _as_conv(name: str, tensor: Tensor) -> Tensor:
    """LDM's VAE attention is made of 1x1 convolutions."""
    linear = re.search(r"attentions\.0\.to_.*weight", name)
    return tensor[:, :, None, None] if linear else tensor


def _open_clip(prefix: str, states: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """With as many layers as OpenCLIP has; those that diffusers leaves out are zero."""
    found = {prefix + theirs: states[ours] for ours, theirs in _OUTSIDE.items()}
    width = states["embeddings.token_embedding.weight"].shape[1]
    projection = states.get("text_projection.weight", torch.eye(width))
    found |= {f"{prefix}text_projection": projection.T, f"{prefix}logit_scale": torch.tensor(4.6)}
    for n in range(layers):
        known = n if f"encoder.layers.{n}.mlp.fc1.weight" in states else 0
        size = 1.0 if known == n else 0.0
        block, start = f"{prefix}transformer.resblocks.{n}.", f"encoder.layers.{known}."
        for end in ("weight", "bias"):
            packed = [states[f"{start}self_attn.{p}_proj.{end}"] for p in "qkv"]
            found[f"{block}attn.in_proj_{end}"] = torch.cat(packed) * size
            found |= {f"{block}{t}.{end}": states[f"{start}{o}.{end}"] * size for o, t in _BLOCK.items()}
    return found
