"""A single-file base as diffusers' and transformers' own modules; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sdlora.core.errors import BaseUnusable
from sdlora.core.safetensors_io import reader
from sdlora.core.text import Text
from sdlora.families.spec import Config, FamilySpec, short_path
from sdlora.models.checkpoint import Checkpoint, checkpoint_configs
from sdlora.models.precision import Dtypes

Tensors = dict[str, Tensor]


def checkpoint_tensors(checkpoint: Checkpoint, read: Callable[[Path], Tensors] = load_file) -> dict[str, Tensors]:
    """Part -> weights by diffusers' names (text encoders with `text_model.`). Unless `read` does otherwise, they stay in the mapped
    file until they are used."""
    return checkpoint.layout.tensors(read(checkpoint.file), checkpoint_configs(checkpoint))


def build_modules(checkpoint: Checkpoint, prediction: str, dtypes: Dtypes) -> dict[str, nn.Module]:
    """Denoiser, VAE and text encoders.

    Raises:
        BaseUnusable: tensors are missing.
    """
    made: dict[str, nn.Module] = {}
    parts = checkpoint_configs(checkpoint, prediction)

    def dtype_of(name: str) -> torch.dtype:
        return dtypes.vae if name.startswith(checkpoint.layout.vae_prefix) else dtypes.weights

    for part, weights in checkpoint_tensors(checkpoint, partial(reader.load_as_dtype, dtype_of=dtype_of)).items():
        dtype = dtypes.vae if part == "vae" else dtypes.weights
        model = _empty(checkpoint.family, part, parts[part])
        names = model.state_dict().keys()  # transformers 5.6 and newer has no `text_model.` in CLIPTextModel
        own = {k if k in names else short_path(k): v.to(dtype) for k, v in weights.items()}
        missing, unexpected = model.load_state_dict(own, strict=False, assign=True)
        if missing or unexpected:
            raise BaseUnusable(
                Text(
                    f"{checkpoint.file.name} is no whole checkpoint: {len(missing)} tensors of its {part} are missing and {len(unexpected)} unknown ({[*missing, *unexpected][0]}).",
                    f"{checkpoint.file.name} は完全なチェックポイントではありません: {part} のテンソルが {len(missing)} 個不足、{len(unexpected)} 個不明です({[*missing, *unexpected][0]})。",
                )
            )
        made[part] = model.to(dtype)
    return made


def _empty(family: FamilySpec, part: str, config: Config) -> nn.Module:
    kind = family.part_class(part)
    if hasattr(kind, "from_config"):  # diffusers' classes
        with torch.device("meta"):
            model: nn.Module = kind.from_config(config)
        return model
    model = kind(kind.config_class(**config))  # not on `meta`: it has buffers that no file holds
    return model
