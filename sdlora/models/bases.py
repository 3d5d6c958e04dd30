"""Which base models there are, told from their files alone: nothing here loads weights or torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdlora.errors import BaseUnusable
from sdlora.models.family import family_of
from sdlora.text import Text

BUNDLED = Path(__file__).parent.parent / "bundled" / "emoji"
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_WEIGHTS = ("unet", "text_encoder", "vae")  # the parts whose weights make a base what it is


@dataclass(frozen=True)
class BaseRef:
    """A base model that was asked for. `source` is what a worker loads: a folder, or a hub id not fetched yet."""

    name: str
    source: str
    folder: Path | None


def resolve_base(name: str) -> BaseRef:
    """Find a base by name: `emoji`, a diffusers folder, a name in `$SDLORA_BASES`, or a hub id. Uses no network.

    Raises:
        BaseUnusable: nothing of that name, or a folder that is not in diffusers layout.
    """
    if name == "emoji":
        return BaseRef(name, str(BUNDLED), _checked(BUNDLED))
    for folder in (Path(name).expanduser(), *(p for p in _offered_folders() if p.name == name)):
        if folder.is_dir():
            return BaseRef(name, str(folder.absolute()), _checked(folder.absolute()))
    if Path(name).expanduser().exists():
        raise BaseUnusable(
            Text(
                f"{name} is a file. A base is a folder in diffusers layout (model_index.json, unet/, vae/, …) or a hub id.",
                f"{name} はファイルです。基礎モデルには diffusers 形式のフォルダー(model_index.json、unet/、vae/ など)かハブ ID を指定してください。",
            )
        )
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        cached = _in_hub_cache(name)
        return BaseRef(name, name, _checked(cached) if cached else None)
    raise BaseUnusable(
        Text(
            f"There is no base model {name!r}: not a folder here, not a hub id (owner/name), and not `emoji`.",
            f"基礎モデル {name!r} が見つかりません。フォルダー、ハブ ID(owner/name)、`emoji` のいずれかを指定してください。",
        )
    )


def _checked(folder: Path) -> Path:
    missing = [
        p
        for p in ("model_index.json", "unet", "vae", "text_encoder", "tokenizer", "scheduler")
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


def _offered_folders() -> list[Path]:
    root = os.environ.get("SDLORA_BASES")
    if not root or not Path(root).is_dir():
        return []
    return sorted(p for p in Path(root).iterdir() if (p / "model_index.json").is_file())


def offered() -> list[str]:
    """Names that the page offers: the bundled base and the folders in `$SDLORA_BASES`."""
    return ["emoji", *(p.name for p in _offered_folders())]


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


def fingerprint(folder: Path, part: str = "") -> str:
    """A hash that changes when the base (or one part of it, such as `vae`) does.

    Files up to 64 MB are hashed whole. Larger ones by size, their first megabyte (names and shapes of all tensors)
    and 256 blocks of 64 KB spread over the rest: a fine-tune moves every tensor, and reading 7 GB before each job
    would cost more than it protects.
    """
    total = hashlib.sha256()
    configs = [p for inner in folder.iterdir() if inner.is_dir() for p in inner.glob("*.json")]
    for path in sorted([*configs, *weight_files(folder)]):
        if path.parent.name.startswith(part):
            total.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
            for block in _blocks(path):
                total.update(block)
    return total.hexdigest()


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
    unet_shapes: dict[str, tuple[int, ...]]  # weight name -> shape
    text_encoder_shapes: dict[str, tuple[int, ...]]

    @property
    def unet_parameters(self) -> int:
        return sum(_product(s) for s in self.unet_shapes.values())

    @property
    def text_encoder_parameters(self) -> int:
        return sum(_product(s) for s in self.text_encoder_shapes.values())


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


def facts(base: BaseRef) -> BaseFacts | None:
    """Read from configs and safetensors headers, in milliseconds. None for a base not on this machine yet.

    Raises:
        BaseUnusable: a config is missing or the family is not one that can be trained.
    """
    if base.folder is None:
        return None
    try:
        unet, vae, scheduler = (
            json.loads((base.folder / part).read_text())
            for part in ("unet/config.json", "vae/config.json", "scheduler/scheduler_config.json")
        )
        return BaseFacts(
            family=family_of(unet).name,
            prediction=scheduler.get("prediction_type", "epsilon"),
            resolution=native_resolution(unet, vae),
            unet_shapes=_shapes(base.folder, "unet"),
            text_encoder_shapes=_shapes(base.folder, "text_encoder"),
        )
    except (OSError, ValueError, KeyError) as error:
        raise BaseUnusable(
            Text(f"The base {base.name} cannot be read: {error}", f"基礎モデル {base.name} を読み込めません: {error}")
        ) from None


def native_resolution(unet: dict[str, Any], vae: dict[str, Any]) -> int:
    """Pixels of a side: latent size × the VAE's factor, 2^(levels - 1)."""
    return int(unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1))


def _shapes(folder: Path, part: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        if path.parent.name == part:
            with open(path, "rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(length, 64 << 20)))
            shapes |= {k: tuple(v["shape"]) for k, v in header.items() if k != "__metadata__"}
    return shapes
