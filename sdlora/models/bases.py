"""Which base models there are, told from their files alone: nothing here loads weights or torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from sdlora.core.errors import BadInput, BaseUnusable
from sdlora.core.safetensors_io.header import tensor_shapes
from sdlora.core.text import Text
from sdlora.families.spec import Part, detect_family, get_family
from sdlora.models.checkpoint import configs, diffusers_shapes, read_checkpoint

BUNDLED = Path(__file__).parent.parent / "bundled" / "emoji"
EXAMPLE = BUNDLED.parent / "pictures"  # 24 captioned pictures in one style that the bundled base does not know
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_WEIGHTS = ("unet", "text_encoder", "vae")  # the parts whose weights make a base what it is


@dataclass(frozen=True)
class BaseRef:
    """A base model that was asked for. `source` is what a worker loads: a folder, a file, or a hub id not fetched yet."""

    name: str
    source: str
    path: Path | None  # a folder in diffusers layout, or one .safetensors file; None = not on this machine


def resolve_base(name: str) -> BaseRef:
    """Find a base by name: `emoji`, a diffusers folder, a checkpoint file, a name in `$SDLORA_BASES`, or a hub id. Uses no network.

    Raises:
        BaseUnusable: nothing of that name, or a folder or file that is no base.
    """
    if name == "emoji":
        return BaseRef(name, str(BUNDLED), _checked(BUNDLED))
    for path in (*_given(name), *(p for p in _on_offer() if name in (p.name, p.stem))):
        if path.is_dir():
            return BaseRef(name, str(path.absolute()), _checked(path.absolute()))
        if path.is_file():
            return BaseRef(name, str(path.absolute()), read_checkpoint(path.absolute()).file)
    if _HUB_ID.fullmatch(name) and not any(part.strip(".") == "" or part.startswith(".") for part in name.split("/")):
        cached = _in_hub_cache(name)
        return BaseRef(name, name, _checked(cached) if cached else None)
    raise BaseUnusable(
        Text(
            f"There is no base model {name[:200]!r}: not a folder or file here, not a hub id (owner/name), and not `emoji`.",
            f"基礎モデル {name[:200]!r} が見つかりません。フォルダー、.safetensors ファイル、ハブ ID(owner/name)、`emoji` のいずれかを指定してください。",
        )
    )


def _given(name: str) -> list[Path]:
    """The path that a name is; none where no file system takes it (too long, half a letter)."""
    try:
        path = Path(name).expanduser()
        return [path] if path.exists() else []
    except (OSError, ValueError, RuntimeError):
        return []


def _checked(folder: Path) -> Path:
    missing = [
        p
        for p in ("model_index.json", "unet", "vae", "text_encoder", "tokenizer", "scheduler", *_second(folder))
        if not (folder / p).exists()
    ]
    if missing:
        names = ", ".join(missing)
        raise BaseUnusable(
            Text(
                f"{folder.name} is not a base model in diffusers layout: {names} missing.",
                f"{folder.name} は diffusers 形式の基礎モデルではありません({names} がありません)。",
            )
        )
    return folder


def _second(folder: Path) -> list[str]:
    """Parts that only a family with two text encoders has."""
    try:
        unet = json.loads((folder / "unet/config.json").read_bytes())
        two = len(detect_family(unet).text_encoders) == 2
    except (OSError, ValueError, BaseUnusable):
        two = False  # loading says what is wrong
    return ["text_encoder_2", "tokenizer_2"] if two else []


def _on_offer() -> list[Path]:
    """Folders and checkpoint files in `$SDLORA_BASES`. Small files are LoRAs or single parts."""
    root = os.environ.get("SDLORA_BASES")
    if not root or not Path(root).is_dir():
        return []
    return sorted(
        p
        for p in Path(root).iterdir()
        if (p / "model_index.json").is_file() or (p.suffix == ".safetensors" and _is_checkpoint(p))
    )


def _is_checkpoint(file: Path) -> bool:
    try:
        return bool(read_checkpoint(file))
    except BaseUnusable:
        return False


def available() -> list[str]:
    """Names that the page offers: the bundled base and what is in `$SDLORA_BASES`."""
    return ["emoji", *(p.name for p in _on_offer())]


def _in_hub_cache(hub_id: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError, ValueError):
        return None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files a base is loaded from: of each part the fp32 or only variant, sharded or not."""
    found: list[Path] = []
    for part in sorted(p.name for p in folder.iterdir() if p.name.startswith(_WEIGHTS)):
        files = sorted((folder / part).glob("*.safetensors"))
        plain = [f for f in files if ".fp16." not in f.name and ".non_ema" not in f.name]
        found += plain or files
    return found


def fingerprint(path: Path, part: str = "") -> str:
    """A hash that changes when the base (or one part of it, such as `vae`; of a single file, the whole) does.

    Files up to 64 MB are hashed whole. Larger ones by size, their first megabyte (names and shapes of all tensors)
    and 256 blocks of 64 KB spread over the rest: a fine-tune moves every tensor, and reading 7 GB before each job
    would cost more than it protects.
    """
    total = hashlib.sha256()
    for file in [path] if path.is_file() else _files(path, part):
        total.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
        for block in _blocks(file):
            total.update(block)
    return total.hexdigest()


def _files(folder: Path, part: str) -> list[Path]:
    configs = [p for inner in folder.iterdir() if inner.is_dir() for p in inner.glob("*.json")]
    return sorted(p for p in [*configs, *weight_files(folder)] if p.parent.name.startswith(part))


def _blocks(path: Path, whole: int = 64 << 20, count: int = 256, size: int = 64 << 10) -> Iterator[bytes]:
    length = path.stat().st_size
    with open(path, "rb") as file:
        if length <= whole:
            yield file.read()
            return
        yield file.read(1 << 20)
        for k in range(count):
            file.seek((length - size) * k // (count - 1))
            yield file.read(size)


@dataclass(frozen=True)
class BaseFacts:
    """What the page says about a base before anything is loaded."""

    family: str  # a key of `family.FAMILIES`
    prediction: str
    resolution: int  # pixels
    shapes: dict[Part, dict[str, tuple[int, ...]]]  # UNet and text encoders: weight name -> shape

    def parameters(self, part: Part) -> int:
        return sum(prod(s) for s in self.shapes[part].values())


def facts(base: BaseRef) -> BaseFacts | None:
    """Read from configs and safetensors headers, in milliseconds. None for a base not on this machine yet.

    Raises:
        BaseUnusable: a config is missing or the family is not one that can be trained.
    """
    if base.path is None:
        return None
    if base.path.is_file():
        return _facts_of_file(base.path)
    try:
        unet, vae, scheduler = (
            json.loads((base.path / part).read_text())
            for part in ("unet/config.json", "vae/config.json", "scheduler/scheduler_config.json")
        )
        family = detect_family(unet)
        return BaseFacts(
            family=family.name,
            prediction=scheduler.get("prediction_type", "epsilon"),
            resolution=native_resolution(unet, vae),
            shapes={part: _shapes(base.path, part) for part in family.parts},
        )
    except BadInput as error:
        raise BaseUnusable(error.text) from None
    except (OSError, ValueError, KeyError) as error:
        raise BaseUnusable(
            Text(f"The base {base.name} cannot be read: {error}", f"基礎モデル {base.name} を読み込めません: {error}")
        ) from None


def _facts_of_file(file: Path) -> BaseFacts:
    found = read_checkpoint(file)
    parts, shapes, family = configs(found), diffusers_shapes(found), get_family(found.family)
    return BaseFacts(
        family=family.name,
        prediction=found.prediction,
        resolution=native_resolution(parts["unet"], parts["vae"]),
        shapes={part: shapes[part] for part in family.parts},
    )


def native_resolution(unet: dict[str, Any], vae: dict[str, Any]) -> int:
    """Pixels of a side: latent size × the VAE's factor, 2^(levels - 1)."""
    return int(unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1))


def _shapes(folder: Path, part: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        if path.parent.name == part:
            shapes |= tensor_shapes(path)
    return shapes
