"""What a LoRA is, told from its header: format, kind, maker, family, rank, targets. Reads no weights and needs no torch."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sdlora.adapters.kind_spec import FileKind
from sdlora.adapters.kinds import kind_of
from sdlora.adapters.layer_names import ALPHA, DORA, DOWN, MID, PEFT_DORA, parse
from sdlora.core.errors import BadInput
from sdlora.core.files import sha256_of
from sdlora.core.safetensors_io.dtypes import FORMATS
from sdlora.core.safetensors_io.header import read_header, scalars
from sdlora.core.text import Text
from sdlora.families import FAMILIES, detect_lora, family_with_ldm_blocks, parts
from sdlora.families.spec import Part, is_text_encoder
from sdlora.lora_files.foreign import refuse_foreign_lora, refuse_no_lora
from sdlora.lora_files.grouping import Grouping, group_names

LayerShape = tuple[Part, str, Sequence[int]]  # part, path, shape of the tensor that reads the layer's input

_PEFT_FILE = "adapter_model.safetensors"
_DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True)
class Inspection:
    """`rank` and `alpha` are of most layers; `alpha` is None where the file stores none (then it equals the rank)."""

    file: Path  # the one that was read; of a PEFT folder with several parts, the first
    format: str  # kohya, diffusers, peft, comfyui; of a kind that is no plain LoRA its name in `FILE_KINDS`
    network: str  # lora, locon (convolutions too), dora, or a name in `FILE_KINDS`, with `+dora` for both
    trainer: str  # which program wrote it, as far as it says
    family: str  # sd1, sd2, sdxl, unknown
    rank: int
    alpha: float | None
    targets: dict[str, int]  # kind of layer -> how many
    parameters: int
    dtype: str
    sha256: str
    metadata: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "file"}


def peft_folders(path: Path) -> dict[Part, Path]:
    """The adapter folders at or below `path`, by part; empty where it is none."""
    if path.name == _PEFT_FILE and (path.parent / "adapter_config.json").is_file():
        path = path.parent
    if (path / "adapter_config.json").is_file():
        return {_part_of_folder(path): path}
    return {part: path / part for part in parts() if (path / part / "adapter_config.json").is_file()}


def _part_of_folder(folder: Path) -> Part:
    """By its name, else by its layers."""
    if folder.name in parts():
        return folder.name
    names = read_header(folder / _PEFT_FILE)[0]
    return next((key.part for name in names if (key := parse(name))), parts()[0])


def inspect_file(path: Path, digest: bool = True) -> Inspection:
    """Read headers and alphas of a file, or of a folder that holds a diffusers or PEFT LoRA. Without `digest`, sha256 is "".

    Raises:
        BadInput: not a whole safetensors file, or no LoRA in it.
    """
    folders = peft_folders(path)
    if not folders and path.is_dir():
        if not (path / _DIFFUSERS_FILE).is_file():
            raise BadInput(
                Text(
                    f"{path.name} is a folder without a LoRA: neither {_DIFFUSERS_FILE} nor PEFT's adapter_config.json is in it.",
                    f"{path.name} に LoRA がありません({_DIFFUSERS_FILE} も adapter_config.json もありません)。",
                )
            )
        path = path / _DIFFUSERS_FILE
    if not folders:
        found = [_inspection(path, *read_header(path))]
    else:
        found = [
            _inspection(f / _PEFT_FILE, *read_header(f / _PEFT_FILE), part, _peft_config(f))
            for part, f in folders.items()
        ]
    found = [replace(one, sha256=sha256_of(one.file)) for one in found] if digest else found
    return found[0] if len(found) == 1 else _join_parts(found, digest)


def _peft_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        if config.get("peft_type") == "LORA":
            return dict(config)
        reason = f"peft_type is {config.get('peft_type')}"
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        reason = str(error)
    raise BadInput(
        Text(
            f"{folder.name}/adapter_config.json is not a LoRA's: {reason}.",
            f"{folder.name}/adapter_config.json は LoRA のものではありません: {reason}",
        )
    )


def _join_parts(found: list[Inspection], hashed: bool) -> Inspection:
    """Several PEFT folders as one LoRA; its sha256 is of the files' own, in order."""
    first = found[0]
    targets = {k: v for one in found for k, v in one.targets.items()}
    digest = hashlib.sha256("".join(one.sha256 for one in found).encode()).hexdigest() if hashed else ""
    family = next((one.family for one in found if one.family != "unknown"), "unknown")
    joined = {"family": family, "targets": targets, "sha256": digest}
    return Inspection(**{**vars(first), **joined, "parameters": sum(one.parameters for one in found)})


def _inspection(
    path: Path,
    header: dict[str, Any],
    metadata: dict[str, str],
    start: int,
    part: Part | None = None,
    config: dict[str, Any] | None = None,
) -> Inspection:
    grouping = group_file(path.name, header, metadata, part)
    layers = [(*where, _input_shape(tensors, header)) for where, tensors in grouping.layers.items()]
    tensors = [name for layer in grouping.layers.values() for ending, name in layer.items() if ending != ALPHA]
    if any(0 in header[name]["shape"] for name in tensors) or any(
        len(header[layer[DOWN]]["shape"]) < 2 for layer in grouping.layers.values() if DOWN in layer
    ):
        raise _refusal(path, "a layer's matrix has no rank", "階数のない行列があります")
    kinds = Counter(kind for layer in grouping.layers.values() if (kind := kind_of(layer)))
    main = max(
        kinds, key=lambda kind: (kind.name not in ("full", "lora"), kind.name != "full", kinds[kind]), default=None
    )
    ranks = [r for layer in grouping.layers.values() if (r := _rank(layer, header))]
    format = main.name if main and main.name != "lora" else grouping.formats.most_common(1)[0][0]
    return Inspection(
        file=path,
        format=format,
        network=_network(grouping, header, main),
        trainer=trainer_of(metadata, format),
        family=family_of(layers, metadata, grouping),
        rank=Counter(ranks).most_common(1)[0][0] if ranks else 0,
        alpha=_alpha(path, header, start, metadata, config),
        targets=dict(sorted(Counter(_layer_kind(p, where) for p, where, _ in layers).items())),
        parameters=sum(math.prod(header[name]["shape"]) for name in tensors),
        dtype=FORMATS[Counter(header[name]["dtype"] for name in tensors).most_common(1)[0][0]].label or "mixed",
        sha256="",
        metadata=metadata,
    )


def group_file(name: str, header: Mapping[str, Any], metadata: Mapping[str, str], part: Part | None = None) -> Grouping:
    """A file's tensor names by layer.

    Raises:
        BadInput: a LoRA for a model of no family here, or no LoRA at all: named for what it is.
    """
    grouping = group_names(header, part)
    if grouping.layers or grouping.unknown_layers:
        refuse_foreign_lora(name, grouping.unknown_layers, metadata)
    if not any(layer.keys() - {ALPHA} for layer in grouping.layers.values()) and not grouping.unknown_layers:
        refuse_no_lora(name, header)
    if grouping.unknown_layers:
        first = grouping.unknown_layers[0]
        raise BadInput(
            Text(
                f"{name} holds layers of no model that can be used here, such as {first}.",
                f"{name} には、ここで使えるモデルにない層が含まれています({first} など)。",
            )
        )
    if grouping.twice:
        raise BadInput(
            Text(
                f"{name} is damaged: {grouping.twice[0]} stands in it under two names.",
                f"{name} は壊れています。{grouping.twice[0]} が 2 つの名前で入っています。",
            )
        )
    return grouping


def _input_shape(layer: Mapping[str, str], header: Mapping[str, Any]) -> Sequence[int]:
    """The shape of the tensor that reads the layer's input, (…, in, …); (0, 0) where none tells."""
    kind = kind_of(layer)
    name = layer.get(kind.input_ending) if kind else None
    return header[name]["shape"] if name else (0, 0)


def _rank(layer: Mapping[str, str], header: Mapping[str, Any]) -> int:
    """0 for a layer without one."""
    kind = kind_of(layer)
    for ending, side in kind.rank_endings if kind else ():
        if ending in layer and len(shape := header[layer[ending]]["shape"]) > side:
            return int(shape[side])
    return 0


def _network(grouping: Grouping, header: Mapping[str, Any], main: FileKind | None) -> str:
    """The kind of most layers that are no plain LoRA; with `+dora` where lengths are trained, too."""
    has_lengths = any(layer.keys() & {DORA, PEFT_DORA} for layer in grouping.layers.values())
    if main and main.name == "oft" and any(len(s) == 4 for s in _shapes_of(grouping, header, "oft_blocks")):
        return "boft"
    if main and main.name != "lora":
        return main.name + ("+dora" if has_lengths else "")
    if has_lengths:
        return "dora"
    denoisers = {where: layer for where, layer in grouping.layers.items() if not is_text_encoder(where[0])}
    kernels = [header[layer[e]]["shape"][2:] for layer in denoisers.values() for e in (DOWN, MID) if e in layer]
    return "locon" if any(kernel not in ([], [1, 1]) for kernel in kernels) else "lora"


def _shapes_of(grouping: Grouping, header: Mapping[str, Any], ending: str) -> list[Sequence[int]]:
    return [header[layer[ending]]["shape"] for layer in grouping.layers.values() if ending in layer]


def trainer_of(metadata: dict[str, str], format: str) -> str:
    """The program that wrote the file, by the marks that each leaves in the metadata."""
    module = metadata.get("ss_network_module", "")
    if "sdlora.version" in metadata:
        return "sdlora"
    if "ot_revision" in metadata or "ot_branch" in metadata:
        return "OneTrainer"
    if "ai-toolkit" in metadata.get("software", ""):
        return "ai-toolkit"
    if module.startswith("lycoris"):
        return "LyCORIS"
    if module or "ss_sd_scripts_commit_hash" in metadata:
        return "sd-scripts"
    return format if format in ("diffusers", "peft") else "unknown"


def family_of(layers: Iterable[LayerShape], metadata: Mapping[str, str], grouping: Grouping | None = None) -> str:
    """The family's name, or "unknown"."""
    family = detect_lora(layers, dict(metadata))
    if family is None and grouping and grouping.has_ldm_names:
        return family_with_ldm_blocks().name
    return family.name if family else "unknown"


def _refusal(path: Path, en: str, ja: str) -> BadInput:
    return BadInput(Text(f"{path.name} cannot be used: {en}.", f"{path.name} は使えません: {ja}。"))


def _alpha(
    path: Path, header: dict[str, Any], start: int, metadata: dict[str, str], config: dict[str, Any] | None
) -> float | None:
    """Raises BadInput where one is stored that is no number."""
    found: list[Any] = list(scalars(path, header, start, [name for name in header if name.endswith(".alpha")]))
    if not found:
        try:
            config = json.loads(metadata.get("lora_adapter_metadata", "{}")) if config is None else config
            if not isinstance(config, dict):
                raise TypeError
            names = ("lora_alpha", "unet.lora_alpha", "text_encoder.lora_alpha")
            found = [config[name] for name in names if name in config][:1]
        except (ValueError, TypeError, RecursionError):
            found = [None]
    if any(type(alpha) not in (int, float) or not math.isfinite(alpha) for alpha in found):
        raise _refusal(path, "its alpha is not a number", "アルファが数値ではありません")
    return float(Counter(found).most_common(1)[0][0]) if found else None


def _layer_kind(part: str, path: str) -> str:
    for kind, words in (
        ("attention", "attn"),
        ("ff", r"[._]ff[._]|mlp"),
        ("proj", "proj_in|proj_out|projection"),
        ("norm", "norm"),
    ):
        if re.search(words, path):
            return f"{part}.{kind}"
    return f"{part}.conv"


def refuse_other_family(name: str, family: str, base_family: str, base: str) -> None:
    """Raises BadInput where a LoRA is known to be for another family than the base is of."""
    if "unknown" in (family, base_family) or family == base_family:
        return
    titles = FAMILIES[family].short_title, FAMILIES[base_family].short_title
    raise BadInput(
        Text(
            f"{name} is a LoRA for {titles[0]}, but the base {base} is {titles[1]}.",
            f"{name} は {titles[0]} 用の LoRA ですが、基礎モデル {base} は {titles[1]} です。",
        )
    )
