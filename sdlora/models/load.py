"""Load a base model's parts through diffusers and transformers, safetensors only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL

from sdlora.core.errors import BadInput, BaseUnusable
from sdlora.core.files import read_json
from sdlora.core.safetensors_io.dtypes import torch_dtype
from sdlora.core.safetensors_io.reader import load_as_dtype
from sdlora.core.text import Text
from sdlora.families import detect_family, parts
from sdlora.families.autoencoder import downscaling
from sdlora.families.base_model import Base
from sdlora.families.spec import Config, FamilySpec, Part, is_text_encoder, tokenizer_of
from sdlora.models.bases import BaseRef, facts, read_configs
from sdlora.models.checkpoint import configs, read_checkpoint
from sdlora.models.checkpoint_modules import build_modules
from sdlora.models.tokenizer import find_tokenizer

Precision = Literal["auto", "fp32", "bf16", "fp16"]
SMALL = 100_000_000  # parameters of a denoiser


def default_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def resolve_dtype(precision: Precision, device: torch.device, parameters: int) -> torch.dtype:
    """`auto` is bf16 where the device computes in it, else fp16 on a GPU and fp32 on a CPU.

    On a CPU a small base is computed in fp32: measured on 17 M parameters, bf16 is no faster there (0.29 s a step both).
    """
    if precision != "auto":
        return torch_dtype(precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu" and parameters > SMALL:
        return torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32
    return torch.float32


def _silence_libraries() -> None:
    """Our own progress and words are shown; the libraries' bars and notes about torchvision are not."""
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def load_base(
    ref: BaseRef, precision: Precision = "auto", device: torch.device | None = None, prediction: str = "auto"
) -> Base:
    """Load all parts. A hub id that is not on this machine yet is downloaded first. Without a device, the best one is picked.

    Raises:
        BaseUnusable: parts missing or damaged, no safetensors, or the hub cannot be reached.
    """
    _silence_libraries()
    path, device = local_path(ref), device or default_device()
    try:
        read = _read_file if path.is_file() else _read_folder
        loaded = read(replace(ref, path=path), precision, device, prediction)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BaseUnusable(
            Text(f"The base {ref.name} cannot be loaded: {reason}", f"基礎モデル {ref.name} を読み込めません: {reason}")
        ) from error
    for module in (loaded.vae, *loaded.modules.values()):
        module.to(device).eval().requires_grad_(False)
    family = loaded.family
    return Base(
        path=path,
        family=family,
        prediction=family.prediction(loaded.configs) if prediction == "auto" else prediction,
        resolution=family.resolution(loaded.configs),
        factor=downscaling(loaded.vae.config),
        tokenizers=loaded.tokenizers,
        parts=loaded.modules,
        vae=loaded.vae,
        scheduler=loaded.configs["scheduler"],
        zero_empty=loaded.zero_empty,
        device=device,
        dtype=loaded.modules[family.denoiser].dtype,
    )


@dataclass(frozen=True)
class _Loaded:
    """What is read from disk, wherever it lay."""

    family: FamilySpec
    configs: dict[str, Config]
    tokenizers: dict[Part, Any]
    modules: dict[Part, Any]  # what a LoRA can act on
    vae: AutoencoderKL
    zero_empty: bool


def _dtypes(ref: BaseRef, family: FamilySpec, precision: Precision, device: torch.device) -> dict[str, torch.dtype]:
    described = facts(ref)
    dtype = resolve_dtype(precision, device, described.parameters(family.denoiser) if described else 0)
    # The VAE overflows in fp16 on many bases: it gets bf16 or fp32, never fp16.
    return {"weights": dtype, "vae": torch.float32 if dtype == torch.float16 else dtype}


def _read_folder(ref: BaseRef, precision: Precision, device: torch.device, prediction: str) -> _Loaded:
    folder = ref.path
    assert folder is not None
    configs = read_configs(folder)
    family = detect_family(configs)
    dtypes = _dtypes(ref, family, precision, device)
    modules = {part: _read_part(folder, family, part, dtypes["weights"]) for part in family.parts}
    return _Loaded(
        family=family,
        configs=configs,
        tokenizers={
            part: family.part_class(tokenizer_of(part)).from_pretrained(
                folder, subfolder=tokenizer_of(part), local_files_only=True
            )
            for part in family.text_encoders
        },
        modules=modules,
        vae=_read_part(folder, family, "vae", dtypes["vae"]),
        zero_empty=family.zero_empty_text and bool(configs["model_index"].get("force_zeros_for_empty_prompt", True)),
    )


def _read_part(folder: Path, family: FamilySpec, part: str, dtype: torch.dtype) -> Any:
    """A model of the folder, through its library; the denoiser without a second copy in memory where that is possible."""
    kind, options = family.part_class(part), {"subfolder": part, "use_safetensors": True, "local_files_only": True}
    if family.classes[part].startswith("transformers."):
        return kind.from_pretrained(folder, dtype=dtype, **options)
    model = _read_into_dtype(folder / part, kind, dtype) if part == family.denoiser else None
    return model or kind.from_pretrained(folder, torch_dtype=dtype, low_cpu_mem_usage=True, **options)


def _read_into_dtype(folder: Path, kind: Any, dtype: torch.dtype) -> Any:
    """None where it is not one file with just the model's tensors: diffusers then reads it, or says what is wrong with it."""
    file = folder / "diffusion_pytorch_model.safetensors"
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


def _read_file(ref: BaseRef, precision: Precision, device: torch.device, prediction: str) -> _Loaded:
    assert ref.path is not None
    checkpoint = read_checkpoint(ref.path)
    family, described = checkpoint.family, configs(checkpoint, prediction)
    made: dict[str, Any] = build_modules(checkpoint, prediction, _dtypes(ref, family, precision, device))
    return _Loaded(
        family=family,
        configs=described,
        tokenizers={
            part: find_tokenizer(checkpoint.file, described[part], checkpoint.layout.padding.get(part))
            for part in family.text_encoders
        },
        modules={part: made[part] for part in family.parts},
        vae=made["vae"],
        zero_empty=family.zero_empty_text,
    )


def local_path(ref: BaseRef) -> Path:
    """Where the base lies; a hub id that is not here yet is downloaded first. Raises BaseUnusable where that fails."""
    return ref.path or _download(ref)


def _hub_files() -> list[str]:
    """What a base consists of on the hub; everything else there (pickles, single-file copies) is never fetched."""
    weights = [f"{part}/*.safetensors" for part in (*parts(), "vae")]
    return ["*.json", "*.txt", *weights, *(f"{tokenizer_of(part)}/*" for part in parts() if is_text_encoder(part))]


def _download(ref: BaseRef) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(ref.source, allow_patterns=_hub_files()))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise BaseUnusable(
            Text(
                f"The base {ref.name} is not on this machine and could not be downloaded. Check the name and the network, or give a folder.",
                f"基礎モデル {ref.name} はこのマシンになく、ダウンロードもできませんでした。名前とネットワークを確認するか、フォルダーを指定してください。",
            )
        ) from error
