"""Load a base model's parts through diffusers and transformers, safetensors only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL

from sdlora.core.device_errors import is_out_of_memory
from sdlora.core.errors import BadInput
from sdlora.core.files import read_json
from sdlora.core.safetensors_io.reader import load_as_dtype
from sdlora.families import get_family, refusals
from sdlora.families.autoencoder import downscaling
from sdlora.families.base_model import Base
from sdlora.families.spec import Config, FamilySpec, Part, tokenizer_of
from sdlora.models.bases import facts
from sdlora.models.checkpoint import checkpoint_configs, read_checkpoint, unusable
from sdlora.models.checkpoint_modules import build_modules
from sdlora.models.folder import family_of_folder, read_configs, variant_of, weights_name
from sdlora.models.hub import BaseRef, local_path
from sdlora.models.precision import Dtypes, Precision, allow_tf32, default_device, resolve_dtypes
from sdlora.models.tokenizer import find_tokenizer

STAGED_DEVICES = ("cuda",)  # with a memory of their own


def _silence_libraries() -> None:
    """Our own progress and words are shown; the libraries' bars and notes about torchvision are not."""
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def load_base(
    ref: BaseRef,
    precision: Precision = "auto",
    device: torch.device | None = None,
    prediction: str = "auto",
    staged: bool = False,
) -> Base:
    """Load all parts. A hub id that is not on this machine yet is downloaded first. Without a device, the best one is picked.

    `staged`: on a GPU the denoiser stays in the machine's memory, and the caller puts it on `Base.device` once texts are
    encoded. Text encoders and denoiser of SDXL are 6.7 GB together, apart 5.1.

    Raises:
        BaseUnusable: parts missing or damaged, no safetensors, or the hub cannot be reached.
    """
    _silence_libraries()
    path, device = local_path(ref), device or default_device()
    ref = replace(ref, path=path)
    base_facts = facts(ref)  # refuses before anything is loaded
    assert base_facts is not None
    dtypes = resolve_dtypes(precision, device, base_facts.parameters(get_family(base_facts.family).denoiser))
    try:
        loaded = _read_file(path, dtypes, prediction) if path.is_file() else _read_folder(path, ref.label, dtypes)
    except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:  # the libraries' own
        if is_out_of_memory(error):
            raise
        raise unusable(ref.label, refusals.DAMAGED) from error
    allow_tf32(device)
    family = loaded.family
    for part, module in {"vae": loaded.vae, **loaded.modules}.items():
        module.eval().requires_grad_(False)
        if not (staged and device.type in STAGED_DEVICES and part == family.denoiser):
            module.to(device)
    return Base(
        path=path,
        family=family,
        prediction=family.prediction(loaded.configs) if prediction == "auto" else prediction,
        resolution=family.resolution(loaded.configs),
        factor=downscaling(loaded.vae.config),
        tokenizers=loaded.tokenizers,
        parts=loaded.modules,
        vae=loaded.vae,
        scheduler=_usable_scheduler(family, loaded.configs["scheduler"]),
        zero_empty=loaded.zero_empty,
        device=device,
        dtype=loaded.modules[family.denoiser].dtype,
    )


@dataclass(frozen=True)
class _BaseParts:
    """What is read from disk, wherever it lay."""

    family: FamilySpec
    configs: dict[str, Config]
    tokenizers: dict[Part, Any]
    modules: dict[Part, Any]  # what a LoRA can act on
    vae: AutoencoderKL
    zero_empty: bool


def _usable_scheduler(family: FamilySpec, config: Config) -> Config:
    """The base's own where the family's pipeline can draw with it, else the family's with the base's noise schedule: schedulers
    that a package of others brings, or that need scipy."""
    own, name = family.scheduler["_class_name"], str(config.get("_class_name"))
    if own in (name, *getattr(getattr(diffusers, name, None), "_compatibles", ())):
        return config
    return family.scheduler | {k: v for k, v in config.items() if k in family.scheduler and k != "_class_name"}


def _read_folder(folder: Path, name: str, dtypes: Dtypes) -> _BaseParts:
    configs = read_configs(folder)
    family = family_of_folder(configs, name)
    modules = {part: _read_part(folder, family, part, dtypes.weights) for part in family.parts}
    return _BaseParts(
        family=family,
        configs=configs,
        tokenizers={
            part: family.part_class(tokenizer_of(part)).from_pretrained(
                folder, subfolder=tokenizer_of(part), local_files_only=True
            )
            for part in family.text_encoders
        },
        modules=modules,
        vae=_read_part(folder, family, "vae", dtypes.vae),
        zero_empty=family.zero_empty_text and bool(configs["model_index"].get("force_zeros_for_empty_prompt", True)),
    )


def _read_part(folder: Path, family: FamilySpec, part: str, dtype: torch.dtype) -> Any:
    """A model of the folder, through its library; the denoiser without a second copy in memory where that is possible."""
    kind = family.part_class(part)
    options: dict[str, Any] = {"subfolder": part, "use_safetensors": True, "local_files_only": True}
    options["variant"] = variant_of(folder, part)
    if family.classes[part].startswith("transformers."):
        return kind.from_pretrained(folder, dtype=dtype, **options)
    model = _read_into_dtype(folder / part, kind, dtype) if part == family.denoiser else None
    return model or kind.from_pretrained(folder, torch_dtype=dtype, low_cpu_mem_usage=True, **options)


def _read_into_dtype(folder: Path, kind: Any, dtype: torch.dtype) -> Any:
    """None where it is not one file with just the model's tensors: diffusers then reads it, or says what is wrong with it."""
    file = folder / weights_name(folder.name)
    if not file.is_file():
        return None
    try:
        tensors = load_as_dtype(file, lambda name: dtype)
    except (BadInput, KeyError, OSError):
        return None
    with torch.device("meta"):
        model = kind.from_config(read_json(folder / "config.json"))
    wanted = {name: p.shape for name, p in model.state_dict().items()}
    if wanted != {name: t.shape for name, t in tensors.items()}:
        return None
    model.load_state_dict(tensors, assign=True)
    return model


def _read_file(path: Path, dtypes: Dtypes, prediction: str) -> _BaseParts:
    checkpoint = read_checkpoint(path)
    family, configs = checkpoint.family, checkpoint_configs(checkpoint, prediction)
    modules: dict[str, Any] = build_modules(checkpoint, prediction, dtypes)
    return _BaseParts(
        family=family,
        configs=configs,
        tokenizers={
            part: find_tokenizer(checkpoint.file, configs[part], checkpoint.layout.padding.get(part))
            for part in family.text_encoders
        },
        modules={part: modules[part] for part in family.parts},
        vae=modules["vae"],
        zero_empty=family.zero_empty_text,
    )
