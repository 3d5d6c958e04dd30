"""Which base models there are, told from their files alone: nothing here loads weights or torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from math import prod
from pathlib import Path

from sdlora.core.errors import BadInput, BaseUnusable
from sdlora.core.safetensors_io.header import tensor_shapes
from sdlora.core.text import Text
from sdlora.families import refusals
from sdlora.families.spec import Part
from sdlora.models.checkpoint import checkpoint_configs, checkpoint_shapes, read_checkpoint, unusable
from sdlora.models.folder import check_folder, family_of_folder, missing_files, read_configs, weight_files
from sdlora.models.hub import BaseRef, hub_snapshot

BUNDLED = Path(__file__).parent.parent / "bundled" / "emoji"
EXAMPLE = BUNDLED.parent / "pictures"  # 24 captioned pictures in one style that the bundled base does not know
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


def resolve_base(name: str) -> BaseRef:
    """Find a base by name: `emoji`, a diffusers folder, a checkpoint file, a name in `$SDLORA_BASES`, or a hub id. Uses no network.

    Raises:
        BaseUnusable: nothing of that name, or a folder or file that is no base.
    """
    if name == "emoji":
        return BaseRef(name, str(BUNDLED), check_folder(BUNDLED, name))
    for path in (*_existing_path(name), *(p for p in _listed() if name in (p.name, p.stem))):
        if path.is_dir():
            return BaseRef(name, str(path.absolute()), check_folder(path.absolute(), path.name))
        if path.is_file():
            return BaseRef(name, str(path.absolute()), read_checkpoint(path.absolute()).file)
    if _HUB_ID.fullmatch(name) and not any(part.strip(".") == "" or part.startswith(".") for part in name.split("/")):
        cached = hub_snapshot(name)
        return BaseRef(name, name, cached if cached and not missing_files(cached, name) else None)
    raise BaseUnusable(
        Text(
            f"There is no base model {name[:200]!r}: not a folder or file here, not a hub id (owner/name), and not `emoji`.",
            f"基礎モデル {name[:200]!r} が見つかりません。フォルダー、.safetensors ファイル、ハブ ID(owner/name)、`emoji` のいずれかを指定してください。",
        )
    )


def _existing_path(name: str) -> list[Path]:
    """The path that a name is; none where no file system takes it (too long, half a letter)."""
    try:
        path = Path(name).expanduser()
        return [path] if path.exists() else []
    except (OSError, ValueError, RuntimeError):
        return []


def _listed() -> list[Path]:
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
    return ["emoji", *(p.name for p in _listed())]


@dataclass(frozen=True)
class BaseFacts:
    """What the page says about a base before anything is loaded."""

    family: str  # a key of `families.FAMILIES`
    prediction: str
    resolution: int  # pixels
    size_unit: int  # pixels that a picture's sides are multiples of
    shapes: dict[Part, dict[str, tuple[int, ...]]]  # denoiser and text encoders: weight name -> shape

    def parameters(self, part: Part) -> int:
        return sum(prod(s) for s in self.shapes[part].values())


def facts(base: BaseRef) -> BaseFacts | None:
    """Read from configs and safetensors headers, in milliseconds. None for a base not on this machine yet.

    Raises:
        BaseUnusable: a base that cannot be trained, and why.
    """
    if base.path is None:
        return None
    try:
        return _facts_of_file(base.path) if base.path.is_file() else _facts_of_folder(base.path, base.label)
    except BadInput as error:
        raise BaseUnusable(error.text) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise unusable(base.label, refusals.DAMAGED) from error


def _facts_of_folder(folder: Path, name: str) -> BaseFacts:
    configs = read_configs(folder)
    family = family_of_folder(configs, name)
    if fault := family.fault(configs):
        raise unusable(name, fault)
    return BaseFacts(
        family=family.name,
        prediction=family.prediction(configs),
        resolution=family.resolution(configs),
        size_unit=family.size_unit(configs),
        shapes={part: _shapes(folder, part) for part in family.parts},
    )


def _facts_of_file(file: Path) -> BaseFacts:
    checkpoint = read_checkpoint(file)
    family, shapes = checkpoint.family, checkpoint_shapes(checkpoint)
    return BaseFacts(
        family=family.name,
        prediction=checkpoint.prediction,
        resolution=family.resolution(checkpoint_configs(checkpoint)),
        size_unit=family.size_unit(checkpoint_configs(checkpoint)),
        shapes={part: shapes[part] for part in family.parts},
    )


def _shapes(folder: Path, part: Part) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        if path.parent.name == part:
            shapes |= tensor_shapes(path)
    return shapes
