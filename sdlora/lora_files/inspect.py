"""What a LoRA is, told from its header: format, kind, maker, family, rank, targets. Reads no weights and needs no torch."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from sdlora.adapters.layer_names import Key, parse
from sdlora.core.errors import BadInput
from sdlora.core.files import sha256_of
from sdlora.core.safetensors_io.dtypes import FORMATS
from sdlora.core.safetensors_io.header import read_header, scalars
from sdlora.core.text import Text
from sdlora.families import detect_lora, family_with_ldm_blocks, part_of_path, parts
from sdlora.families.spec import Part, is_text_encoder
from sdlora.lora_files import file_kind
from sdlora.lora_files.file_kind import LayerShape

_PEFT_FILE = "adapter_model.safetensors"
_DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True)
class Inspection:
    """`rank` and `alpha` are of most layers; `alpha` is None where the file stores none (then it equals the rank)."""

    file: Path  # the one that was read; of a PEFT folder with several parts, the first
    format: str  # kohya, diffusers, peft, or another one of `FILE_KINDS`
    network: str  # lora, locon (convolutions too), dora, or another one of `FILE_KINDS`
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
    """By its name, else by its layers' paths."""
    if folder.name in parts():
        return folder.name
    names = list(read_header(folder / _PEFT_FILE)[0])
    found = [part_of_path(name.removeprefix("base_model.model.")) for name in names]
    return next((part for part in found if not is_text_encoder(part)), "text_encoder")


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
    weights = [name for name in header if not name.endswith(".alpha")]
    keys = {name: key for name in header if (key := parse(name))}
    down = {name: key for name, key in keys.items() if key.role == "down"}
    if any(len(header[name]["shape"]) < 2 or 0 in header[name]["shape"] for name in down):
        raise _odd(path, "a layer's matrix has no rank", "階数のない行列があります")
    other = file_kind.detect_kind(header)
    if other and not (other.name == "full" and down):
        kind = network = other.name
        ranks, places = file_kind.ranks(header, other), file_kind.layer_shapes(header, other)
    elif down:
        kind, network = Counter(key.format for key in down.values()).most_common(1)[0][0], _network(header, keys)
        ranks = [header[name]["shape"][0] for name in down]
        places = [
            (key.part or part or part_of_path(key.path), key.path, header[name]["shape"]) for name, key in down.items()
        ]
    else:
        _refuse(path, header)
    family = family_of(places, metadata)
    if family == "unknown" and (file_kind.has_ldm_names(header) or any(key.ldm for key in keys.values())):
        family = family_with_ldm_blocks().name
    return Inspection(
        file=path,
        format=kind,
        network=network,
        trainer=trainer_of(metadata, kind),
        family=family,
        rank=Counter(ranks).most_common(1)[0][0] if ranks else 0,
        alpha=_alpha(path, header, start, metadata, config),
        targets=dict(sorted(Counter(_layer_kind(p, where) for p, where, _ in places).items())),
        parameters=sum(math.prod(header[name]["shape"]) for name in weights),
        dtype=FORMATS[Counter(header[n]["dtype"] for n in weights).most_common(1)[0][0]].label or "mixed",
        sha256="",
        metadata=metadata,
    )


def _refuse(path: Path, header: dict[str, Any]) -> NoReturn:
    raise BadInput(
        Text(
            f"{path.name} holds {len(header)} tensors, but none by the name of a LoRA's (kohya, diffusers, PEFT, LyCORIS).",
            f"{path.name} には {len(header)} 個のテンソルがありますが、LoRA の名前(kohya、diffusers、PEFT、LyCORIS)のものはありません。",
        )
    )


def _network(header: dict[str, Any], keys: dict[str, Key]) -> str:
    if any(key.role == "dora" for key in keys.values()):
        return "dora"
    kernels = [
        header[n]["shape"][2:]
        for n, key in keys.items()
        if key.role == "down" and not is_text_encoder(key.part or part_of_path(key.path))
    ]
    return "locon" if any(k not in ([], [1, 1]) for k in kernels) else "lora"


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


def family_of(layers: Iterable[LayerShape], metadata: dict[str, str]) -> str:
    """The family's name, or "unknown"."""
    family = detect_lora(layers, metadata)
    return family.name if family else "unknown"


def _odd(path: Path, en: str, ja: str) -> BadInput:
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
        raise _odd(path, "its alpha is not a number", "アルファが数値ではありません")
    return float(Counter(found).most_common(1)[0][0]) if found else None


def _layer_kind(part: str, path: str) -> str:
    for kind, words in (("attention", "attn"), ("ff", r"[._]ff[._]|mlp"), ("proj", "proj_in|proj_out")):
        if re.search(words, path):
            return f"{part}.{kind}"
    return f"{part}.conv"
