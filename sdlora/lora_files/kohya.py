"""The file that a training writes: live adapters in kohya's names, and back into live adapters."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from sdlora.adapters import file_tensors
from sdlora.adapters.inject import Adapters
from sdlora.core.errors import BadInput
from sdlora.core.files import write_bytes
from sdlora.core.safetensors_io import writer
from sdlora.core.safetensors_io.dtypes import torch_dtype
from sdlora.core.text import Text
from sdlora.families.spec import canonical_path
from sdlora.lora_files.layers import Layer, Lora, refuse_not_finite, refuse_tensors, sort_layers
from sdlora.lora_files.metadata import RunMetadata, lycoris_metadata, metadata
from sdlora.lora_files.read import read_lora
from sdlora.lora_files.write import kohya_bytes, serialize


def to_lora(adapters: Adapters, family: str) -> Lora:
    """Plain adapters as they are now, in fp32; all of one rank, since diffusers reads only one."""
    matrices, config = adapters.named_parameters(), adapters.config
    largest = max(config.rank_of(part) for part in adapters.parts)
    layers = [
        Layer(
            part,
            canonical_path(part, path),
            matrices[f"{part}.{path}.lora_A"].data,
            matrices[f"{part}.{path}.lora_B"].data,
            config.alpha_of(config.rank_of(part)),
        ).padded(largest)
        for part, paths in adapters.parts.items()
        for path in paths
    ]
    return Lora(sort_layers(layers), family, {})


def write(path: Path, adapters: Adapters, family: str, about: RunMetadata, dtype: str) -> str:
    """Write the file by the canonical writer. Returns its sha256.

    Raises:
        Diverged: a weight is not finite, or does not fit the dtype.
    """
    content = to_bytes(adapters, family, about, dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return writer.sha256(content)


def to_bytes(adapters: Adapters, family: str, about: RunMetadata, dtype: str) -> bytes:
    """The file's bytes. Raises as `write` does."""
    if adapters.config.adapter_kind.two_matrices:
        lora = to_lora(adapters, family).cast(torch_dtype(dtype))
        refuse_not_finite(lora.layers)
        return kohya_bytes(Lora(lora.layers, family, metadata(about)))
    tensors = file_tensors.to_file_tensors(adapters, family, torch_dtype(dtype))
    refuse_tensors(tensors)
    return serialize(tensors, metadata(about) | lycoris_metadata(adapters.config))


def read_parameters(path: Path, adapters: Adapters, family: str) -> dict[str, Tensor]:
    """A file written by `write`, back as the names that `Adapters.load` takes."""
    if not adapters.config.adapter_kind.two_matrices:
        return file_tensors.from_file_tensors(load_file(path), adapters, family)
    layers = {(layer.part, layer.path): layer for layer in read_lora(path).layers}
    found: dict[str, Tensor] = {}
    for part, paths in adapters.parts.items():
        rank = adapters.config.rank_of(part)
        for inner in paths:
            layer = layers[part, canonical_path(part, inner)]
            found[f"{part}.{inner}.lora_A"], found[f"{part}.{inner}.lora_B"] = layer.down[:rank], layer.up[:, :rank]
    return found


def start_from(path: Path, adapters: Adapters, family: str) -> dict[str, Tensor]:
    """A LoRA file of whatever origin, as values for `Adapters.load` with which these adapters change the base as it does.

    A smaller rank is filled up: the new rows of A stay as they are, their columns of B are zero. Layers that the file
    lacks stay untrained.

    Raises:
        BadInput: another kind, another family, a larger rank, or a layer that is not trained here and would be lost.
    """
    if not adapters.config.adapter_kind.two_matrices:
        return file_tensors.from_file_tensors(load_file(path), adapters, family)
    lora, matrices = read_lora(path), adapters.named_parameters()
    if lora.family not in (family, "unknown"):
        raise _unfit(
            path,
            f"it was made for {lora.family}, the base is {family}",
            f"{lora.family} 用で、基礎モデルは {family} です",
        )
    layers = {(layer.part, layer.path): layer for layer in lora.layers}
    found: dict[str, Tensor] = {}
    for part, paths in adapters.parts.items():
        for inner in paths:
            layer, name = layers.pop((part, canonical_path(part, inner)), None), f"{part}.{inner}"
            if layer is not None:
                a, b = matrices[f"{name}.lora_A"], matrices[f"{name}.lora_B"]
                _refuse_misfit(path, layer, a, b)
                up = layer.up.float() * (layer.scale / adapters.config.scale)
                found[f"{name}.lora_A"] = torch.cat([layer.down.float(), a[layer.rank :].cpu()])
                found[f"{name}.lora_B"] = torch.cat([up, torch.zeros_like(b[:, layer.rank :], device="cpu")], 1)
    if layers:
        part, inner = next(iter(layers))
        raise _unfit(
            path,
            f"{len(layers)} of its layers ({part} {inner}, …) are not trained with these settings: see lora.targets, lora.blocks and train.text_encoder_lr",
            f"{len(layers)} 個の層({part} {inner} など)がこの設定では学習対象外です。lora.targets、lora.blocks、train.text_encoder_lr を確認してください",
        )
    return found


def _refuse_misfit(path: Path, layer: Layer, a: Tensor, b: Tensor) -> None:
    if layer.rank > a.shape[0]:
        raise _unfit(
            path,
            f"its rank is {layer.rank}: set lora.rank to {layer.rank} or more, or resize it first",
            f"ランクが {layer.rank} です。lora.rank を {layer.rank} 以上にするか、先にリサイズしてください",
        )
    if layer.down.shape[1:] != a.shape[1:] or layer.up.shape[0] != b.shape[0]:
        raise _unfit(
            path, f"{layer.path} has another size in this base", f"{layer.path} の大きさが基礎モデルと異なります"
        )


def _unfit(path: Path, en: str, ja: str) -> BadInput:
    return BadInput(
        Text(f"{path.name} cannot be trained further here: {en}.", f"{path.name} からは学習を始められません: {ja}。")
    )
