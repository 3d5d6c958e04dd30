"""A base in diffusers layout: its configurations, its weight files, and what is missing of it. No torch, no network."""

from __future__ import annotations

import json
from pathlib import Path

from sdlora.core.errors import BaseUnusable
from sdlora.core.text import Text
from sdlora.families import FAMILIES, detect_family, parts, refusals
from sdlora.families.spec import Config, FamilySpec, is_text_encoder, tokenizer_of
from sdlora.models.checkpoint import unusable

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def read_configs(folder: Path) -> dict[str, Config]:
    """The configurations in a folder, by sub-folder; `model_index` is its own. What cannot be read is left out."""
    files = {"model_index": folder / "model_index.json", "scheduler": folder / "scheduler/scheduler_config.json"}
    files |= {file.parent.name: file for file in sorted(folder.glob("*/config.json"))}
    configs: dict[str, Config] = {}
    for name, file in files.items():
        try:
            config = json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(config, dict):
            configs[name] = config
    return configs


def check_folder(folder: Path, name: str) -> Path:
    """The folder, if everything is there that its family's layout has; `name` is what people call it.

    Raises:
        BaseUnusable: a part or its weights are missing, or it is a model of another kind.
    """
    if missing := missing_files(folder, name):
        names = ", ".join(missing)
        raise BaseUnusable(
            Text(
                f"{name} is not a base model in diffusers layout: {names} missing.",
                f"{name} は diffusers 形式の基礎モデルではありません({names} がありません)。",
            )
        )
    return folder


def missing_files(folder: Path, name: str) -> list[str]:
    """What is missing of a base, empty where it is whole.

    Raises:
        BaseUnusable: a model of another kind, or one whose weights are there as pickles only.
    """
    configs = read_configs(folder)
    denoisers = [family.denoiser for family in FAMILIES.values()]
    if any(denoiser in configs for denoiser in denoisers) or refusals.name_folder(configs):
        family = family_of_folder(configs, name)
    else:
        family = next(iter(FAMILIES.values()))  # what is missing from the commonest layout
    wanted = ["model_index.json", *family.parts, "vae", *map(tokenizer_of, family.text_encoders), "scheduler"]
    if missing := [part for part in wanted if not (folder / part).exists()]:
        return missing
    return [f"{part}/{weights_name(part)}" for part in (*family.parts, "vae") if not _has_weights(folder, part, name)]


def family_of_folder(configs: dict[str, Config], name: str) -> FamilySpec:
    """Raises BaseUnusable: no family here has such a base."""
    if family := detect_family(configs):
        return family
    denoiser = next((configs[f.denoiser] for f in FAMILIES.values() if f.denoiser in configs), {})
    kind = denoiser.get("addition_embed_type") or denoiser.get("_class_name")
    otherwise = refusals.another_kind(str(kind)) if kind else refusals.DAMAGED
    raise unusable(name, refusals.name_folder(configs) or otherwise)


def _has_weights(folder: Path, part: str, name: str) -> bool:
    """Whether a part's configuration and all its safetensors files are there. Raises BaseUnusable: they are pickles."""
    files = _of_part(folder / part)
    if not files and any(file.suffix in _PICKLES for file in (folder / part).iterdir()):
        only = Text(
            f"only .safetensors weights are read, since other kinds can run code, and {part} has none",
            f"対応形式は .safetensors のみですが、{part} にありません",
        )
        raise unusable(name, only)
    present = {file.name for file in files}
    return bool(files) and (folder / part / "config.json").is_file() and _shards(folder / part, present) <= present


def _shards(part: Path, present: set[str]) -> set[str]:
    """The files that an index of the weights names, unless they are there in one piece."""
    if any("-of-" not in name for name in present):
        return set()
    found: set[str] = set()
    for index in part.glob("*.index.json"):
        try:
            names = set(json.loads(index.read_bytes())["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if names & present:
            found |= names
    return found


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files a base is loaded from: of each part the fp32 or only variant, sharded or not."""
    weights = (*parts(), "vae")  # the parts whose weights make a base what it is
    return [
        file
        for part in sorted(p.name for p in folder.iterdir() if p.name.startswith(weights))
        for file in _of_part(folder / part)
    ]


def _of_part(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    plain = [f for f in files if ".fp16." not in f.name and ".non_ema" not in f.name]
    return plain or files


def variant_of(folder: Path, part: str) -> str | None:
    """diffusers' name for the weights that are there: "fp16" where only these are, None for the usual ones."""
    files = _of_part(folder / part)
    return "fp16" if files and all(".fp16." in file.name for file in files) else None


def weights_name(part: str) -> str:
    """What diffusers or transformers call a part's weights in one file."""
    return "model.safetensors" if is_text_encoder(part) else "diffusion_pytorch_model.safetensors"
