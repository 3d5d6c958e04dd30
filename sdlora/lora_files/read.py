"""Read a LoRA file of any format and kind into layers under our own names; what a task cannot keep whole is refused, never dropped."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from sdlora.adapters.file_tensors import LayerTensors
from sdlora.adapters.kinds import kind_of
from sdlora.adapters.kinds.lora import joined_down
from sdlora.adapters.layer_names import ALPHA, DORA, DOWN, MID, PEFT_DORA, SCALAR, UP
from sdlora.core.errors import BadInput
from sdlora.core.safetensors_io.header import read_header
from sdlora.core.text import Text
from sdlora.families.spec import Part, short_path
from sdlora.lora_files.inspect import group_file, inspect_file, peft_folders
from sdlora.lora_files.layers import Layer, Lora, sort_layers
from sdlora.lora_files.write import ADAPTER_METADATA, PEFT_FILE

_FORMAT_METADATA = (ADAPTER_METADATA, "format")  # facts of one format, not of the LoRA
_PLAIN = {DOWN, UP, MID, ALPHA, SCALAR}


@dataclass(frozen=True)
class LoraFile:
    """A file's layers as they are stored, by our own names; fp8 as fp16, which holds every number of it."""

    name: str  # of the file, for sentences about it
    layers: dict[tuple[Part, str], LayerTensors]
    family: str  # or "unknown"
    metadata: dict[str, str]
    others: tuple[str, ...] = ()  # names of tensors of no layer, such as bundled embeddings

    @property
    def is_plain(self) -> bool:
        """Whether every layer is two matrices and nothing else."""
        return all(tensors.keys() <= _PLAIN for tensors in self.layers.values())

    @classmethod
    def of(cls, lora: Lora, name: str = "LoRA") -> LoraFile:
        layers = {(x.part, x.path): {DOWN: x.down, UP: x.up, ALPHA: torch.tensor(x.alpha)} for x in lora.layers}
        return cls(name, layers, lora.family, lora.metadata)

    def lora(self) -> Lora:
        """As plain layers.

        Raises:
            BadInput: a layer of another kind, or tensors that would be lost.
        """
        if self.others:
            raise _stray(self.name, self.others[0])
        return Lora(self.plain_layers(), self.family, self.metadata)

    def plain_layers(self) -> tuple[Layer, ...]:
        """The layers alone. Raises BadInput for one of another kind, or a damaged one."""
        for where, tensors in self.layers.items():
            if not tensors.keys() <= _PLAIN:
                raise self._not_plain(*where, tensors)
        return sort_layers([_layer(self.name, *where, tensors) for where, tensors in self.layers.items()])

    def _not_plain(self, part: Part, path: str, tensors: LayerTensors) -> BadInput:
        """What keeps this layer from being two matrices: its kind, or a tensor beside them."""
        kind = kind_of(tensors)
        has_lengths = bool(tensors.keys() & {DORA, PEFT_DORA})
        is_beside = kind is None or (kind.name == "full" and any(DOWN in layer for layer in self.layers.values()))
        if is_beside or (kind and kind.name == "lora" and not has_lengths):
            return _stray(self.name, f"{part}.{path}.{next(e for e in tensors if e not in _PLAIN)}")
        title = kind.title if kind and kind.name != "lora" else ""
        title = " + ".join([*([title] if title else []), *(["DoRA"] if has_lengths else [])])
        return BadInput(
            Text(
                f"{self.name} holds {title} layers, which are not two matrices: it can be drawn and put into a base, but not converted, merged with others or resized.",
                f"{self.name} は {title} の層を含み、2 つの行列ではありません。描画や基礎モデルへの適用はできますが、変換・マージ・リサイズはできません。",
            )
        )


def read_lora(path: Path) -> Lora:
    """A LoRA of two matrices a layer.

    Raises:
        BadInput: see `read_file`; a kind that has no two matrices a layer; tensors that would be lost.
    """
    return read_file(path).lora()


def read_file(path: Path) -> LoraFile:
    """A LoRA file of any format and kind, a PEFT folder, or a folder with PEFT folders or a diffusers file in it.

    Raises:
        BadInput: no LoRA, one for another kind of model, a damaged one, or numbers that are not finite.
    """
    inspection = inspect_file(path, digest=False)
    folders = peft_folders(path)
    layers: dict[tuple[Part, str], LayerTensors] = {}
    metadata: dict[str, str] = {}
    others: list[str] = []
    for part, folder in folders.items():
        config = json.loads((folder / "adapter_config.json").read_text())
        _read_tensors(folder / PEFT_FILE, layers, metadata, others, part, config)
    if not folders:
        _read_tensors(inspection.file, layers, metadata, others)
    _refuse_not_finite(path.name, layers)
    metadata = {k: v for k, v in metadata.items() if k not in _FORMAT_METADATA}
    return LoraFile(path.name, layers, inspection.family, metadata, tuple(others))


def _read_tensors(
    path: Path,
    layers: dict[tuple[Part, str], LayerTensors],
    metadata: dict[str, str],
    others: list[str],
    part: Part | None = None,
    config: dict[str, Any] | None = None,
) -> None:
    header, found, _ = read_header(path)
    grouping = group_file(path.name, header, found, part)
    configs = json.loads(found.get(ADAPTER_METADATA, "{}"))
    with safe_open(path, "pt") as file:
        for where, names in grouping.layers.items():
            layers[where] = {ending: _as_float(file.get_tensor(name)) for ending, name in names.items()}
            _add_alpha(layers[where], config if config is not None else _config_of(configs, where[0]), where[1])
    metadata |= found
    others += grouping.others


def _as_float(tensor: Tensor) -> Tensor:
    """fp8 as fp16: few operations know fp8."""
    return tensor.to(torch.float16) if tensor.is_floating_point() and tensor.element_size() == 1 else tensor


def _config_of(configs: dict[str, Any], part: Part) -> dict[str, Any]:
    return {k.removeprefix(f"{part}."): v for k, v in configs.items() if k.startswith(f"{part}.")}


def _add_alpha(tensors: LayerTensors, config: Mapping[str, Any], path: str) -> None:
    """PEFT's rules where no tensor says alpha: a pattern that fits the path's end, else `lora_alpha`; times sqrt(r) for rsLoRA."""
    if ALPHA in tensors or DOWN not in tensors or "lora_alpha" not in config:
        return
    patterns, rank = config.get("alpha_pattern") or {}, tensors[DOWN].shape[0]
    inner = short_path(path)
    alpha = next((v for k, v in patterns.items() if re.match(rf"(.*\.)?({k})$", inner)), config["lora_alpha"])
    factor = math.sqrt(rank) if config.get("use_rslora") else 1.0
    tensors[ALPHA] = torch.tensor(float(alpha) * factor, dtype=torch.float64)


def _refuse_not_finite(name: str, layers: Mapping[tuple[Part, str], LayerTensors]) -> None:
    for (part, path), tensors in layers.items():
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise BadInput(
                Text(
                    f"{name} cannot be used: its layer {part}.{path} holds numbers that are not finite (NaN or infinity).",
                    f"{name} は使えません。層 {part}.{path} に有限でない値(NaN または無限大)があります。",
                )
            )


def _stray(file: str, name: str) -> BadInput:
    return BadInput(
        Text(
            f"{file} holds {name!r}, which belongs to no plain LoRA layer: it would be lost, so nothing was done.",
            f"{file} の {name!r} は通常の LoRA の層ではありません。失われてしまうため、処理を中止しました。",
        )
    )


def _layer(file: str, part: Part, path: str, tensors: LayerTensors) -> Layer:
    if DOWN not in tensors or UP not in tensors:
        raise BadInput(
            Text(
                f"{file} is damaged: the layer {path} lacks one of its two matrices.",
                f"{file} は壊れています。層 {path} の行列が片方しかありません。",
            )
        )
    down, up = tensors[DOWN], tensors[UP]
    if MID in tensors:
        down = joined_down({DOWN: down.float(), MID: tensors[MID].float()}).to(down.dtype)
    if up.flatten(1).shape[1] != down.shape[0]:
        raise BadInput(
            Text(
                f"{file} is damaged: the matrices of {path} have ranks {down.shape[0]} and {up.shape[1]}.",
                f"{file} は壊れています。{path} の行列のランクが一致しません({down.shape[0]} と {up.shape[1]})。",
            )
        )
    if SCALAR in tensors:
        up = (up.float() * tensors[SCALAR].float()).to(up.dtype)
    alpha = float(tensors[ALPHA]) if ALPHA in tensors else float(down.shape[0])
    return Layer(part, path, down.contiguous(), up.contiguous(), alpha)
