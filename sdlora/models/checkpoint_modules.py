"""A single-file base as diffusers' and transformers' own modules; names are converted by diffusers' functions, nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from sdlora.core.errors import BaseUnusable
from sdlora.core.safetensors_io import reader
from sdlora.core.text import Text
from sdlora.models.checkpoint import TEXT_ENCODERS, Checkpoint, configs

Tensors = dict[str, Tensor]


def tensors(found: Checkpoint, read: Callable[[Path], Tensors] = load_file) -> dict[str, Tensors]:
    """Part -> weights by diffusers' names (text encoders with `text_model.`). Unless `read` does otherwise, they stay in the mapped
    file until they are used."""
    whole, parts = read(found.file), configs(found)
    converted = {
        "unet": convert_ldm_unet_checkpoint(whole, parts["unet"]),
        "vae": convert_ldm_vae_checkpoint(whole, parts["vae"]),
    }
    for part, prefix, open_clip in TEXT_ENCODERS[found.family]:
        if open_clip:
            size = SimpleNamespace(config=SimpleNamespace(hidden_size=parts[part]["hidden_size"]))
            inside = convert_open_clip_checkpoint(size, whole, prefix=prefix)
        else:
            inside = convert_ldm_clip_checkpoint({k: v for k, v in whole.items() if k.startswith(prefix)})
        named = {
            k if k.startswith(("text_model.", "text_projection.")) else f"text_model.{k}": v for k, v in inside.items()
        }
        outside = ("position_ids",) if part == "text_encoder_2" else ("position_ids", "text_projection.weight")
        converted[part] = {k: v for k, v in named.items() if not k.endswith(outside) and k != "text_model.logit_scale"}
    return converted


def modules(found: Checkpoint, prediction: str, dtypes: dict[str, torch.dtype]) -> dict[str, nn.Module]:
    """UNet, VAE and text encoders, each in its dtype; `dtypes` has `unet` and `vae`, text encoders follow the UNet.

    Raises:
        BaseUnusable: tensors are missing.
    """
    made: dict[str, nn.Module] = {}
    parts = configs(found, prediction)

    def dtype_of(name: str) -> torch.dtype:
        return dtypes["vae" if name.startswith("first_stage_model.") else "unet"]

    for part, weights in tensors(found, partial(reader.load_as_dtype, dtype_of=dtype_of)).items():
        dtype = dtypes["vae" if part == "vae" else "unet"]
        model = _empty(part, parts[part])
        own = {k: v.to(dtype) for k, v in _as_the_model_names(model, weights).items()}
        missing, unexpected = model.load_state_dict(own, strict=False, assign=True)
        if missing or unexpected:
            raise BaseUnusable(
                Text(
                    f"{found.file.name} is no whole checkpoint: {len(missing)} tensors of its {part} are missing and {len(unexpected)} unknown ({[*missing, *unexpected][0]}).",
                    f"{found.file.name} は完全なチェックポイントではありません: {part} のテンソルが {len(missing)} 個不足、{len(unexpected)} 個不明です({[*missing, *unexpected][0]})。",
                )
            )
        made[part] = model.to(dtype)
    return made


def _empty(part: str, config: dict[str, Any]) -> nn.Module:
    if part in ("unet", "vae"):
        with torch.device("meta"):
            return (UNet2DConditionModel if part == "unet" else AutoencoderKL).from_config(config)
    kind = CLIPTextModelWithProjection if part == "text_encoder_2" else CLIPTextModel
    return kind(CLIPTextConfig(**config))  # not on `meta`: it has buffers that no file holds


def _as_the_model_names(model: nn.Module, weights: Tensors) -> Tensors:
    """transformers 5.6 and newer has no `text_model.` in CLIPTextModel."""
    if any(name.startswith("text_model.") for name, _ in model.named_parameters()):
        return weights
    return {k.removeprefix("text_model."): v for k, v in weights.items()}
