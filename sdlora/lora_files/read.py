"""Reading a LoRA of any format into one form; what cannot be kept whole is refused, never dropped."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from sdlora.adapters.layer_names import Key, parse
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.families import part_of_path
from sdlora.families.spec import Part, canonical_path, short_path
from sdlora.lora_files.inspect import family_of, inspect_file, peft_folders
from sdlora.lora_files.layers import Layer, Lora, sort_layers
from sdlora.lora_files.write import ADAPTER_METADATA

_ABOUT_FORMAT = (ADAPTER_METADATA, "format")  # facts of one format, not of the LoRA


def read_lora(path: Path) -> Lora:
    """A kohya or diffusers file, a PEFT folder, or a folder with PEFT folders or a diffusers file in it.

    Raises:
        BadInput: no LoRA, a damaged one, or one of a kind that has no two plain matrices a layer (LoHa, LoKr, DoRA).
    """
    inspection = inspect_file(path)
    if inspection.network not in ("lora", "locon"):
        raise BadInput(
            Text(
                f"{path.name} is a {inspection.network} file: its layers are not two matrices, so it can be inspected but not changed here.",
                f"{path.name} は {inspection.network} 形式です。層が 2 つの行列ではないため、確認はできますが変換や編集はできません。",
            )
        )
    folders = peft_folders(path)
    if folders:
        read_parts = [_read_peft(part, folder) for part, folder in folders.items()]
        layers = [layer for found, _ in read_parts for layer in found]
        metadata = {k: v for _, found in read_parts for k, v in found.items()}
    else:
        layers, metadata = _read_file(inspection.file)
    metadata = {k: v for k, v in metadata.items() if k not in _ABOUT_FORMAT}
    family = family_of([(x.part, x.path, x.down.shape) for x in layers], metadata)
    return Lora(sort_layers(layers), family if family != "unknown" else inspection.family, metadata)


def _read_file(path: Path) -> tuple[list[Layer], dict[str, str]]:
    groups: dict[tuple[Part, str], dict[str, Tensor]] = defaultdict(dict)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        for name in file.keys():  # noqa: SIM118 (no mapping)
            key = parse(name) or _stray(path, name)
            groups[key.part or part_of_path(key.path), key.path][key.role] = file.get_tensor(name)
    configs = json.loads(metadata.get(ADAPTER_METADATA, "{}"))
    return [_layer(path, *where, found, _config_of(configs, where[0])) for where, found in groups.items()], metadata


def _config_of(configs: dict[str, Any], part: Part) -> dict[str, Any]:
    return {k.removeprefix(f"{part}."): v for k, v in configs.items() if k.startswith(f"{part}.")}


def _read_peft(part: Part, folder: Path) -> tuple[list[Layer], dict[str, str]]:
    config = json.loads((folder / "adapter_config.json").read_text())
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    file_path = folder / "adapter_model.safetensors"
    with safe_open(file_path, "pt") as file:
        metadata = file.metadata() or {}
        for name in file.keys():  # noqa: SIM118
            key = parse(name) or _stray(file_path, name)
            groups[canonical_path(part, key.path)][key.role] = file.get_tensor(name)
    return [_layer(file_path, part, path, found, config) for path, found in groups.items()], metadata


def _stray(path: Path, name: str) -> Key:
    raise BadInput(
        Text(
            f"{path.name} holds {name!r}, which belongs to no LoRA layer: it would be lost, so nothing was done.",
            f"{path.name} の {name!r} は LoRA の層ではありません。失われてしまうため、処理を中止しました。",
        )
    )


def _layer(file: Path, part: Part, path: str, found: dict[str, Tensor], config: dict[str, Any]) -> Layer:
    if "down" not in found or "up" not in found:
        raise BadInput(
            Text(
                f"{file.name} is damaged: the layer {path} lacks one of its two matrices.",
                f"{file.name} は壊れています。層 {path} の行列が片方しかありません。",
            )
        )
    down, up = found["down"], found["up"]
    if "mid" in found:  # LyCORIS splits a convolution into 1x1, k x k, 1x1: the first two are one convolution
        down = torch.einsum("rsij,sc->rcij", found["mid"].float(), down.float().flatten(1)).to(down.dtype)
    if up.flatten(1).shape[1] != down.shape[0]:
        raise BadInput(
            Text(
                f"{file.name} is damaged: the matrices of {path} have ranks {down.shape[0]} and {up.shape[1]}.",
                f"{file.name} は壊れています。{path} の行列のランクが一致しません({down.shape[0]} と {up.shape[1]})。",
            )
        )
    alpha = float(found["alpha"]) if "alpha" in found else _configured_alpha(config, short_path(path), down.shape[0])
    return Layer(part, path, down.contiguous(), up.contiguous(), alpha)


def _configured_alpha(config: dict[str, Any], path: str, rank: int) -> float:
    """PEFT's rules: a pattern that fits the path's end, else `lora_alpha`; times sqrt(r) for rsLoRA. Nothing said = the rank."""
    if "lora_alpha" not in config:
        return float(rank)
    patterns = config.get("alpha_pattern") or {}
    alpha = next((v for k, v in patterns.items() if re.match(rf"(.*\.)?({k})$", path)), config["lora_alpha"])
    return float(alpha) * (math.sqrt(rank) if config.get("use_rslora") else 1.0)
