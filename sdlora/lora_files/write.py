"""Writing a LoRA as kohya's file, diffusers' file or PEFT's folders: the same tensors under other names."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdlora.adapters.layer_names import Format, kohya_name
from sdlora.core.errors import BadInput
from sdlora.core.files import write_bytes
from sdlora.core.safetensors_io import writer
from sdlora.core.text import Text
from sdlora.families.spec import short_path
from sdlora.lora_files.layers import Layer, Lora, refuse_not_finite
from sdlora.lora_files.metadata import network_metadata, with_hashes

ADAPTER_METADATA = (
    "lora_adapter_metadata"  # where diffusers looks for rank and alpha; never in a kohya file: it refuses both
)
DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
PEFT_FILE = "adapter_model.safetensors"


def write_lora(path: Path, lora: Lora, format: Format) -> Path:
    """Write a file (kohya), a file or a folder with one (diffusers), or a folder with one for each part (PEFT).

    Returns the file, or PEFT's folder.

    Raises:
        Diverged: a weight is not finite.
        BadInput: a name that the format's readers would not find.
    """
    refuse_not_finite(lora.layers)
    if format == "peft":
        return _write_peft(path, lora)
    is_file = path.suffix == ".safetensors"
    if format == "kohya" and not is_file:
        raise BadInput(
            Text(
                f"{path.name} does not end in .safetensors: programs find LoRA files by that ending.",
                f"{path.name} は .safetensors で終わっていません。各ソフトはこの拡張子で LoRA を探します。",
            )
        )
    file = path if is_file else path / DIFFUSERS_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, kohya_bytes(lora) if format == "kohya" else diffusers_bytes(lora))
    return file


def kohya_bytes(lora: Lora) -> bytes:
    """`lora_down`, `lora_up` and a 0-dimensional `alpha` in the weights' own number format for each layer."""
    tensors: dict[str, Tensor] = {}
    for layer in lora.layers:
        name = kohya_name(layer.part, layer.path, lora.family)
        tensors[f"{name}.lora_down.weight"] = layer.down
        tensors[f"{name}.lora_up.weight"] = layer.up
        tensors[f"{name}.alpha"] = torch.tensor(layer.alpha, dtype=layer.down.dtype)
    return serialize(tensors, {**lora.metadata, **network_metadata(lora)})


def diffusers_bytes(lora: Lora) -> bytes:
    """`unet.….lora_A.weight`; rank and alpha stand in the header, as each part's LoraConfig."""
    tensors: dict[str, Tensor] = {}
    for layer in lora.layers:
        tensors[f"{layer.part}.{layer.path}.lora_A.weight"] = layer.down
        tensors[f"{layer.part}.{layer.path}.lora_B.weight"] = layer.up
    configs = {f"{part}.{k}": v for part in lora.parts for k, v in lora_config(lora.of(part)).items()}
    header = {ADAPTER_METADATA: json.dumps(configs, indent=2, sort_keys=True), "format": "pt"}
    return serialize(tensors, {**lora.metadata, **network_metadata(lora), **header})


def _write_peft(folder: Path, lora: Lora) -> Path:
    """One folder for each part. In the first text encoder's, paths are as transformers 5.6 and newer has them."""
    if folder.suffix == ".safetensors" or folder.is_file():
        raise BadInput(
            Text(
                f"PEFT adapters are folders, one for each part: give a folder instead of {folder.name}.",
                f"PEFT アダプターは部品ごとのフォルダーです。{folder.name} の代わりにフォルダーを指定してください。",
            )
        )
    for part in lora.parts:
        part_folder = folder / part
        part_folder.mkdir(parents=True, exist_ok=True)
        config = {
            "peft_type": "LORA",
            "task_type": None,
            "base_model_name_or_path": lora.metadata.get("ss_sd_model_name", ""),
            "inference_mode": True,
            "lora_dropout": 0.0,
            "fan_in_fan_out": False,
            **lora_config(lora.of(part)),
        }
        tensors = {}
        for layer in lora.of(part):
            inner = short_path(layer.path) if part == "text_encoder" else layer.path
            tensors[f"base_model.model.{inner}.lora_A.weight"] = layer.down
            tensors[f"base_model.model.{inner}.lora_B.weight"] = layer.up
        write_bytes(part_folder / "adapter_config.json", (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())
        header = {**lora.metadata, **network_metadata(lora), "format": "pt"}
        write_bytes(part_folder / PEFT_FILE, serialize(tensors, header))
    return folder


def lora_config(layers: list[Layer]) -> dict[str, Any]:
    """What PEFT's LoraConfig needs, and nothing that an older PEFT does not know.

    Layers are named without `text_model.`: PEFT takes a name as the end of a path, so it fits in every transformers.
    """
    rank = Counter(x.rank for x in layers).most_common(1)[0][0]
    alpha = Counter(x.alpha for x in layers).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": _number(alpha),
        "target_modules": [short_path(x.path) for x in layers],
        "rank_pattern": {short_path(x.path): x.rank for x in layers if x.rank != rank},
        "alpha_pattern": {short_path(x.path): _number(x.alpha) for x in layers if x.alpha != alpha},
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
    }


def _number(value: float) -> float:
    return int(value) if value == int(value) else value


def serialize(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """The file's bytes, with the hashes of its own data in the header."""
    data, trained = writer.data_bytes(tensors), {k: v for k, v in metadata.items() if k.startswith("ss_")}
    return writer.header_bytes(tensors, with_hashes(metadata, data, writer.header_bytes(tensors, trained))) + data
