"""DoRA, LoHa and LoKr in a file: live adapters to tensors by LyCORIS' names and back, and what a file's layer adds to a weight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from sdlora.adapters.dora import column_norms
from sdlora.adapters.inject import Adapters, trainable_parameters
from sdlora.adapters.layer_names import canonical, kohya_name, parse
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.families.spec import Part

# PEFT's names that a file spells otherwise; LoHa's and LoKr's are the same.
_FILE_ROLES = {"lora_A": "lora_down.weight", "lora_B": "lora_up.weight", "lora_magnitude_vector": "dora_scale"}
_FULL = ("lokr_w1", "lokr_w2")

Group = dict[str, Tensor]  # one layer's tensors by their endings


def tensors_of(adapters: Adapters, family: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of the file. DoRA's lengths stay fp32: fp16 would round the base's own weight, which they rebuild."""
    found: dict[str, Tensor] = {}
    for part, layers in adapters.parts.items():
        rank = adapters.config.rank_of(part)
        alpha = adapters.config.alpha_of(rank)
        for path, layer in layers.items():
            name, values = kohya_name(part, canonical(part, path), family), trainable_parameters(layer)
            # Readers find LoKr's rank at a factor that has one; where both are full they take no alpha. So it goes into one of them.
            folded = adapters.config.scale if values.keys() == set(_FULL) else 1.0
            for role, value in values.items():
                data = value.data * folded if role == "lokr_w2" else value.data
                kept = torch.float32 if role == "lora_magnitude_vector" else dtype
                found[f"{name}.{_FILE_ROLES.get(role, role)}"] = data.to(kept)
            found[f"{name}.alpha"] = torch.tensor(alpha if folded == 1.0 else float(rank), dtype=dtype)
    return found


def values_of(tensors: Mapping[str, Tensor], adapters: Adapters, family: str) -> dict[str, Tensor]:
    """A file of these adapters' own kind and rank, as the names that `Adapters.load` takes.

    Raises:
        BadInput: a layer that the file lacks, or has in another size.
    """
    found: dict[str, Tensor] = {}
    for part, layers in adapters.parts.items():
        for path, layer in layers.items():
            name, values = kohya_name(part, canonical(part, path), family), trainable_parameters(layer)
            folded = adapters.config.scale if values.keys() == set(_FULL) else 1.0
            for role, value in values.items():
                tensor = tensors.get(f"{name}.{_FILE_ROLES.get(role, role)}")
                if tensor is None or tensor.shape != value.shape:
                    raise BadInput(
                        Text(
                            f"The file does not fit these settings: {part}.{path} is {'missing' if tensor is None else 'of another rank'}.",
                            f"このファイルは設定に合いません({part}.{path})。",
                        )
                    )
                found[f"{part}.{path}.{role}"] = tensor.float() / (folded if role == "lokr_w2" else 1.0)
    return found


def groups(tensors: Mapping[str, Tensor]) -> dict[tuple[Part, str], Group]:
    """A file's tensors by layer. Raises BadInput for a name of no layer."""
    found: dict[tuple[Part, str], Group] = defaultdict(dict)
    for name, tensor in tensors.items():
        stem, _, ending = name.partition(".")
        key = parse(f"{stem}.alpha")
        if key is None or key.part is None:
            raise BadInput(Text(f"{name!r} is no layer of a LoRA.", f"{name!r} は LoRA の層ではありません。"))
        found[key.part, key.path][ending] = tensor
    return dict(found)


def delta_weight(group: Group, weight: Tensor) -> Tensor:
    """What a layer of a file adds to `weight` (out, in, …) at strength 1, in fp32: as ComfyUI and A1111 compute it.

    Raises:
        KeyError: not one of these kinds, or a tensor is missing.
    """
    g = {name: tensor.float() for name, tensor in group.items()}
    if "hada_w1_a" in g:
        product = (g["hada_w1_a"] @ g["hada_w1_b"]) * (g["hada_w2_a"] @ g["hada_w2_b"])
        return (product * (g["alpha"] / g["hada_w1_b"].shape[0])).reshape(weight.shape)
    if any(name.startswith("lokr_") for name in g):
        return _kronecker(g).reshape(weight.shape)
    down, up = g["lora_down.weight"], g["lora_up.weight"]
    plain = (up.flatten(1) @ down.flatten(1) * (g["alpha"] / down.shape[0])).reshape(weight.shape)
    if "dora_scale" not in g:
        return plain
    merged = weight.float() + plain
    return merged * (g["dora_scale"] / column_norms(merged)) - weight.float()


def _kronecker(g: Group) -> Tensor:
    rank = next((g[name].shape[0] for name in ("lokr_w1_b", "lokr_w2_b") if name in g), None)
    scale = g["alpha"] / rank if rank else torch.tensor(1.0)
    first, second = (g[n] if n in g else g[f"{n}_a"] @ g[f"{n}_b"] for n in _FULL)
    if second.dim() == 4:
        first = first[:, :, None, None]
    return scale * torch.kron(first, second)
