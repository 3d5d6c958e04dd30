"""What a LoRA file is, told from its header: format, rank, targets, parameters. Reads no weights and needs no torch."""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdlora.errors import BadInput
from sdlora.files import sha256_of
from sdlora.text import Text

_LONGEST_HEADER = 100 << 20  # what the safetensors library itself refuses beyond
_DTYPES = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
# Endings of the matrix that maps the input down to the rank, its first dimension; by format.
_DOWN = {
    "kohya": re.compile(r"lora_(unet|te|te1|te2)_.*\.lora_down\.weight"),
    "peft": re.compile(r"base_model\.model\..*\.lora_A\.weight"),
    "diffusers": re.compile(
        r"(unet|text_encoder|text_encoder_2)\..*\.(lora_A|lora\.down|lora_linear_layer\.down)\.weight"
    ),
    "loha": re.compile(r".*\.hada_w1_b"),
    "lokr": re.compile(r".*\.lokr_w(1|1_b|2_b)"),
}


@dataclass(frozen=True)
class Inspection:
    """`rank` and `alpha` are of most layers; `alpha` is None where the file stores none (then it equals the rank)."""

    format: str
    family: str
    rank: int
    alpha: float | None
    targets: dict[str, int]  # kind of layer -> how many
    parameters: int
    dtype: str
    sha256: str
    metadata: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def inspect_file(path: Path) -> Inspection:
    """Read a file's header and alphas.

    Raises:
        BadInput: not a whole safetensors file, or no LoRA in it.
    """
    header, metadata, start = read_header(path)
    kind, layers = _recognised(path, header)
    ranks = Counter(header[name]["shape"][0] for name in layers)
    alphas = Counter(_alphas(path, header, start))
    weights = [name for name in header if not name.endswith(".alpha")]
    return Inspection(
        format=kind,
        family=_family(header, layers, metadata),
        rank=ranks.most_common(1)[0][0],
        alpha=alphas.most_common(1)[0][0] if alphas else None,
        targets=dict(sorted(Counter(_layer_kind(name) for name in layers).items())),
        parameters=sum(_count(header[name]["shape"]) for name in weights),
        dtype=_DTYPES.get(Counter(header[n]["dtype"] for n in weights).most_common(1)[0][0], "mixed"),
        sha256=sha256_of(path),
        metadata=metadata,
    )


def _recognised(path: Path, header: dict[str, Any]) -> tuple[str, list[str]]:
    """The format and its layers' names."""
    for kind, down in _DOWN.items():
        layers = [name for name in header if down.fullmatch(name)]
        if layers:
            return kind, layers
    raise BadInput(
        Text(
            f"{path.name} holds {len(header)} tensors, but none by the name of a LoRA's (kohya, diffusers, PEFT, LoHa, LoKr).",
            f"{path.name} には {len(header)} 個のテンソルがありますが、LoRA の名前(kohya、diffusers、PEFT、LoHa、LoKr)のものはありません。",
        )
    )


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """Tensor entries, metadata, and where the data starts. Lengths are checked against the file's before anything is read.

    Raises:
        BadInput: no safetensors file, or one that is cut short.
    """
    try:
        length = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(8)
            size = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
            if not 2 <= size <= min(_LONGEST_HEADER, length - 8):
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(size))
        metadata = header.pop("__metadata__", {})
        _check(header, metadata, length - 8 - size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise BadInput(
            Text(
                f"{path.name} is not a whole safetensors file: {reason}.",
                f"{path.name} は正しい safetensors ファイルではありません: {reason}",
            )
        ) from None
    return header, metadata, 8 + size


def _check(header: dict[str, Any], metadata: dict[str, str], room: int) -> None:
    """Every tensor's bytes lie inside the file and are as many as its shape needs."""
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in metadata.items()):
        raise ValueError("its metadata is not text")
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        if not 0 <= first <= last <= room:
            raise ValueError(f"{name} lies outside the file")
        if any(type(side) is not int or side < 0 for side in entry["shape"]):
            raise ValueError(f"{name} has an impossible shape")
        if entry["dtype"] in _SIZES and last - first != _count(entry["shape"]) * _SIZES[entry["dtype"]]:
            raise ValueError(f"{name} has another size than its shape")


def _count(shape: list[int]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


def _alphas(path: Path, header: dict[str, Any], start: int) -> list[float]:
    """The values of all `.alpha` scalars."""
    found = []
    with open(path, "rb") as file:
        for name, entry in header.items():
            if name.endswith(".alpha") and _count(entry["shape"]) == 1:
                file.seek(start + entry["data_offsets"][0])
                found.append(_scalar(file.read(_SIZES.get(entry["dtype"], 0)), entry["dtype"]))
    return found


def _scalar(data: bytes, dtype: str) -> float:
    if dtype == "BF16":  # the upper half of an fp32
        return float(struct.unpack("<f", b"\0\0" + data)[0])
    formats = {"F32": "<f", "F16": "<e", "F64": "<d", "I64": "<q", "I32": "<i"}
    return float(struct.unpack(formats[dtype], data)[0]) if dtype in formats else float("nan")


def _family(header: dict[str, Any], layers: list[str], metadata: dict[str, str]) -> str:
    """By the metadata, else by how wide the text is that cross-attention reads."""
    version = metadata.get("ss_base_model_version", "")
    for start, family in (("sdxl", "sdxl"), ("sd_v2", "sd2"), ("sd_v1", "sd1")):
        if version.startswith(start):
            return family
    widths = {header[n]["shape"][1] for n in layers if "attn2" in n and "to_k" in n and len(header[n]["shape"]) > 1}
    return {768: "sd1", 1024: "sd2", 2048: "sdxl"}.get(next(iter(widths), 0), "unknown")


def _layer_kind(name: str) -> str:
    part = "text_encoder" if re.match(r"(lora_te|text_encoder)", name) else "unet"
    for kind, words in (("attention", ("attn",)), ("ff", ("ff", "mlp")), ("proj", ("proj_in", "proj_out"))):
        if any(word in name for word in words):
            return f"{part}.{kind}"
    return f"{part}.conv"
