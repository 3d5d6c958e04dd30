"""Which base models there are, told from their files alone: nothing here loads weights or torch."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from math import prod
from pathlib import Path

from sdlora.core.errors import BadInput, BaseUnusable
from sdlora.core.safetensors_io.header import tensor_shapes
from sdlora.core.text import Text
from sdlora.families import FAMILIES, detect_family, parts
from sdlora.families.spec import Config, Part, tokenizer_of
from sdlora.models.checkpoint import configs, diffusers_shapes, read_checkpoint

BUNDLED = Path(__file__).parent.parent / "bundled" / "emoji"
EXAMPLE = BUNDLED.parent / "pictures"  # 24 captioned pictures in one style that the bundled base does not know
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


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
    """Raises BaseUnusable where a part of the family's layout is not there."""
    configs = read_configs(folder)
    try:
        family = detect_family(configs)
    except BaseUnusable:
        family = next(
            iter(FAMILIES.values())
        )  # what is missing from the commonest layout; loading says what else is wrong
    tokenizers = [tokenizer_of(part) for part in family.text_encoders]
    wanted = ["model_index.json", *family.parts, "vae", *tokenizers, "scheduler"]
    if missing := [name for name in wanted if not (folder / name).exists()]:
        names = ", ".join(missing)
        raise BaseUnusable(
            Text(
                f"{folder.name} is not a base model in diffusers layout: {names} missing.",
                f"{folder.name} は diffusers 形式の基礎モデルではありません({names} がありません)。",
            )
        )
    return folder


def read_configs(folder: Path) -> dict[str, Config]:
    """The configurations in a folder in diffusers layout, by folder; `model_index` is its own. What cannot be read is left out."""
    files = {"model_index": folder / "model_index.json", "scheduler": folder / "scheduler/scheduler_config.json"}
    files |= {file.parent.name: file for file in sorted(folder.glob("*/config.json"))}
    configs: dict[str, Config] = {}
    for name, file in files.items():
        try:
            configs[name] = json.loads(file.read_bytes())
        except (OSError, ValueError):
            continue
    return configs


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
    weights = (*parts(), "vae")  # the parts whose weights make a base what it is
    for part in sorted(p.name for p in folder.iterdir() if p.name.startswith(weights)):
        files = sorted((folder / part).glob("*.safetensors"))
        plain = [f for f in files if ".fp16." not in f.name and ".non_ema" not in f.name]
        found += plain or files
    return found


@dataclass(frozen=True)
class BaseFacts:
    """What the page says about a base before anything is loaded."""

    family: str  # a key of `families.FAMILIES`
    prediction: str
    resolution: int  # pixels
    shapes: dict[Part, dict[str, tuple[int, ...]]]  # denoiser and text encoders: weight name -> shape

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
        configs = read_configs(base.path)
        family = detect_family(configs)
        return BaseFacts(
            family=family.name,
            prediction=family.prediction(configs),
            resolution=family.resolution(configs),
            shapes={part: _shapes(base.path, part) for part in family.parts},
        )
    except BadInput as error:
        raise BaseUnusable(error.text) from None
    except (OSError, ValueError, KeyError) as error:
        raise BaseUnusable(
            Text(f"The base {base.name} cannot be read: {error}", f"基礎モデル {base.name} を読み込めません: {error}")
        ) from None


def _facts_of_file(file: Path) -> BaseFacts:
    checkpoint = read_checkpoint(file)
    family, shapes = checkpoint.family, diffusers_shapes(checkpoint)
    return BaseFacts(
        family=family.name,
        prediction=checkpoint.prediction,
        resolution=family.resolution(configs(checkpoint)),
        shapes={part: shapes[part] for part in family.parts},
    )


def _shapes(folder: Path, part: Part) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        if path.parent.name == part:
            shapes |= tensor_shapes(path)
    return shapes
