"""Adapters as the tensors of a kohya-named file and back, and the changes that a file's layer makes to a module's parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from sdlora.adapters.inject import Adapters, trainable_parameters
from sdlora.adapters.kinds import dora, kind_of
from sdlora.adapters.layer_names import BIAS_ENDINGS, DORA, PEFT_DORA, SCALAR, kohya_name
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.families.spec import canonical_path

LayerTensors = dict[str, Tensor]  # one layer's tensors by what follows its name: "lora_down.weight", "alpha"


def to_file_tensors(adapters: Adapters, family: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of the file by name."""
    config = adapters.config
    tensors: dict[str, Tensor] = {}
    for part, layers in adapters.parts.items():
        rank = config.rank_of(part)
        for path, layer in layers.items():
            name = kohya_name(part, canonical_path(part, path), family)
            values = {k: v.data for k, v in trainable_parameters(layer).items()}
            found = config.adapter_kind.to_file(values, config.alpha_of(rank), rank, config.scale, dtype)
            tensors |= {f"{name}.{ending}": tensor for ending, tensor in found.items()}
    return tensors


def from_file_tensors(tensors: Mapping[str, Tensor], adapters: Adapters, family: str) -> dict[str, Tensor]:
    """Values for `Adapters.load` from a file of these adapters' own kind and rank.

    Raises:
        BadInput: a layer that the file lacks, or has in another size.
    """
    found: dict[str, Tensor] = {}
    by_layer: dict[str, LayerTensors] = defaultdict(dict)
    for name, tensor in tensors.items():
        stem, _, ending = name.partition(".")
        by_layer[stem][ending] = tensor
    for part, layers in adapters.parts.items():
        for path, layer in layers.items():
            own, stem = trainable_parameters(layer), kohya_name(part, canonical_path(part, path), family)
            values = adapters.config.adapter_kind.from_file(by_layer[stem], own, adapters.config.scale)
            for name, parameter in own.items():
                value = values.get(name)
                if value is None or value.shape != parameter.shape:
                    raise BadInput(
                        Text(
                            f"The file does not fit these settings: {part}.{path} is {'missing' if value is None else 'of another rank'}.",
                            f"このファイルは設定に合いません({part}.{path})。",
                        )
                    )
                found[f"{part}.{path}.{name}"] = value
    return found


def changed_parameters(tensors: LayerTensors) -> list[str]:
    """Which parameters of its module a file's layer changes: `weight`, `bias`."""
    changes_bias = tensors.keys() & set(BIAS_ENDINGS)
    return [*(["weight"] if kind_of(tensors) else []), *(["bias"] if changes_bias else [])]


def file_delta(tensors: LayerTensors, parameter: Tensor, name: str = "weight", strength: float = 1.0) -> Tensor:
    """What a file's layer adds to its module's `weight` (out, in, …) or `bias` (out,), in fp32: as ComfyUI and A1111 compute it.

    Raises:
        NotImplementedError: a kind that is known by its name only.
        KeyError: a tensor is missing.
        RuntimeError: shapes that do not fit the parameter.
    """
    parameter = parameter.float()
    floats = {ending: tensor.to(parameter.device, torch.float32) for ending, tensor in tensors.items()}
    if name == "bias":
        return strength * next(floats[e] for e in BIAS_ENDINGS if e in floats).reshape(parameter.shape)
    kind = kind_of(tensors)
    if kind is None or kind.delta is None:
        raise NotImplementedError
    scalar = floats[SCALAR].item() if SCALAR in floats else 1.0
    if PEFT_DORA in floats:  # its strength is the scale inside the norm
        inner = kind.delta(floats, parameter, scalar * strength)
        return dora.rescale(inner, parameter, floats[PEFT_DORA], by_rows=True)
    if DORA in floats:
        inner, lengths = kind.delta(floats, parameter, scalar), floats[DORA]
        return strength * dora.rescale(inner, parameter, lengths, dora.is_by_rows(lengths, parameter))
    return kind.delta(floats, parameter, scalar * strength)
