"""Adapters as the tensors of a kohya-named file and back, and the change that a file's layer makes to a weight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from sdlora.adapters.inject import Adapters, trainable_parameters
from sdlora.adapters.kinds import FILE_KINDS, dora
from sdlora.adapters.layer_names import kohya_name, parse
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.families.spec import Part, canonical_path

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


def group_by_layer(tensors: Mapping[str, Tensor]) -> dict[tuple[Part, str], LayerTensors]:
    """A file's tensors by layer. Raises BadInput for a name of no layer."""
    found: dict[tuple[Part, str], LayerTensors] = defaultdict(dict)
    for name, tensor in tensors.items():
        stem, _, ending = name.partition(".")
        key = parse(f"{stem}.alpha")
        if key is None or key.part is None:
            raise BadInput(Text(f"{name!r} is no layer of a LoRA.", f"{name!r} は LoRA の層ではありません。"))
        found[key.part, key.path][ending] = tensor
    return dict(found)


def file_delta(tensors: LayerTensors, weight: Tensor) -> Tensor:
    """What a file's layer adds to `weight` (out, in, …) at strength 1, in fp32: as ComfyUI and A1111 compute it.

    Raises:
        KeyError: no kind that is known here, or a tensor is missing.
    """
    weight = weight.float()
    floats = {ending: tensor.to(weight.device, torch.float32) for ending, tensor in tensors.items()}
    kind = next((kind for kind in FILE_KINDS.values() if kind.delta and floats.keys() & set(kind.endings)), None)
    if kind is None or kind.delta is None:
        raise KeyError(next(iter(tensors)))
    delta = kind.delta(floats, weight)
    return dora.rescale(delta, weight, floats) if "dora_scale" in floats else delta
