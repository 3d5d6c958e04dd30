"""Load a base model's parts through diffusers and transformers, safetensors only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from sdlora.core.errors import BadInput, BaseUnusable
from sdlora.core.files import read_json
from sdlora.core.safetensors_io.dtypes import torch_dtype
from sdlora.core.safetensors_io.reader import load_as_dtype
from sdlora.core.text import Text
from sdlora.families.spec import FamilySpec, Part, detect_family, get_family
from sdlora.models.bases import BaseRef, facts, native_resolution
from sdlora.models.checkpoint import TEXT_ENCODERS, configs, read_checkpoint
from sdlora.models.checkpoint_modules import modules
from sdlora.models.tokenizer import find_tokenizer

Precision = Literal["auto", "fp32", "bf16", "fp16"]
SMALL = 100_000_000  # parameters of a UNet
# What a base consists of on the hub; everything else there (pickles, single-file copies) is never fetched.
_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
_WANTED = ["*.json", "*.txt", *(f"{part}/*.safetensors" for part in _PARTS), "tokenizer/*", "tokenizer_2/*"]


@dataclass(frozen=True)
class Base:
    """A loaded base: all weights frozen, in evaluation mode, on `device`."""

    path: Path  # the folder or file it came from
    family: FamilySpec
    prediction: str  # "epsilon" or "v_prediction"
    resolution: int  # pixels of a side that it was trained on
    factor: int  # pixels a latent stands for, along a side
    tokenizers: dict[Part, CLIPTokenizer]  # by text encoder
    parts: dict[Part, Any]  # what a LoRA can act on: `unet`, and the family's text encoders until `free_text_encoders`
    vae: AutoencoderKL
    scheduler: dict[str, Any]  # its config, as diffusers reads it
    zero_empty: bool  # no text is zeros, not the encoded empty string
    device: torch.device
    dtype: torch.dtype  # of UNet and text encoders

    @property
    def unet(self) -> UNet2DConditionModel:
        return self.parts["unet"]

    @property
    def zero_snr(self) -> bool:
        """Whether the last noise level has no signal left (arXiv 2305.08891)."""
        return bool(self.scheduler.get("rescale_betas_zero_snr", False))

    def free_text_encoders(self) -> None:
        """Give their memory back, once every text that will be needed is encoded. They cannot be used any more."""
        for part in self.family.text_encoders:
            self.parts.pop(part, None)


def default_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def resolve_dtype(precision: Precision, device: torch.device, unet_parameters: int) -> torch.dtype:
    """`auto` is bf16 where the device computes in it, else fp16 on a GPU and fp32 on a CPU.

    On a CPU a small base is computed in fp32: measured on 17 M parameters, bf16 is no faster there (0.29 s a step both).
    """
    if precision != "auto":
        return torch_dtype(precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu" and unet_parameters > SMALL:
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
        parts = read(replace(ref, path=path), precision, device, prediction)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BaseUnusable(
            Text(f"The base {ref.name} cannot be loaded: {reason}", f"基礎モデル {ref.name} を読み込めません: {reason}")
        ) from error
    for part in (parts.vae, *parts.parts.values()):
        part.to(device).eval().requires_grad_(False)
    unet = parts.parts["unet"]
    said = parts.scheduler.get("prediction_type", "epsilon")
    return Base(
        path=path,
        family=parts.family,
        prediction=said if prediction == "auto" else prediction,
        resolution=native_resolution(dict(unet.config), dict(parts.vae.config)),
        factor=2 ** (len(parts.vae.config.block_out_channels) - 1),
        tokenizers=parts.tokenizers,
        parts=parts.parts,
        vae=parts.vae,
        scheduler=parts.scheduler,
        zero_empty=parts.zero_empty,
        device=device,
        dtype=unet.dtype,
    )


@dataclass(frozen=True)
class _Parts:
    """What is read from disk, wherever it lay."""

    family: FamilySpec
    tokenizers: dict[Part, CLIPTokenizer]
    parts: dict[Part, Any]
    vae: AutoencoderKL
    scheduler: dict[str, Any]
    zero_empty: bool


def _dtypes(ref: BaseRef, precision: Precision, device: torch.device) -> dict[str, torch.dtype]:
    known = facts(ref)
    dtype = resolve_dtype(precision, device, known.parameters("unet") if known else 0)
    # The VAE overflows in fp16 on many bases: it gets bf16 or fp32, never fp16.
    return {"unet": dtype, "vae": torch.float32 if dtype == torch.float16 else dtype}


def _read_folder(ref: BaseRef, precision: Precision, device: torch.device, prediction: str) -> _Parts:
    folder = ref.path
    assert folder is not None
    family = detect_family(read_json(folder / "unet/config.json"))
    dtypes = _dtypes(ref, precision, device)
    kind: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
    lean = {**kind, "low_cpu_mem_usage": True}
    parts: dict[Part, Any] = {
        "unet": _read_unet(folder, dtypes["unet"])
        or UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=dtypes["unet"], **lean)
    }
    for part in family.text_encoders:
        model = CLIPTextModelWithProjection if part == "text_encoder_2" else CLIPTextModel
        parts[part] = model.from_pretrained(folder, subfolder=part, dtype=dtypes["unet"], **kind)
    index = read_json(folder / "model_index.json")
    return _Parts(
        family=family,
        tokenizers={
            part: CLIPTokenizer.from_pretrained(folder, subfolder=_tokenizer(part), local_files_only=True)
            for part in family.text_encoders
        },
        parts=parts,
        vae=AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=dtypes["vae"], **lean),
        scheduler=read_json(folder / "scheduler/scheduler_config.json"),
        zero_empty=family.conditions and bool(index.get("force_zeros_for_empty_prompt", True)),
    )


def _read_unet(folder: Path, dtype: torch.dtype) -> UNet2DConditionModel | None:
    """The largest part, without a second copy in memory; None where it is not one file with just its tensors: diffusers then reads
    it, or says what is wrong with it."""
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    if not file.is_file():
        return None
    try:
        tensors = load_as_dtype(file, lambda name: dtype)
    except (BadInput, KeyError, OSError):
        return None
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(read_json(folder / "unet/config.json"))
    wanted = {name: p.shape for name, p in unet.state_dict().items()}
    if wanted != {name: t.shape for name, t in tensors.items()}:
        return None
    unet.load_state_dict(tensors, assign=True)
    return unet


def _tokenizer(text_encoder: str) -> str:
    """`text_encoder_2` reads what `tokenizer_2` makes."""
    return text_encoder.replace("text_encoder", "tokenizer")


def _read_file(ref: BaseRef, precision: Precision, device: torch.device, prediction: str) -> _Parts:
    assert ref.path is not None
    found = read_checkpoint(ref.path)
    configured, family = configs(found, prediction), get_family(found.family)
    made: dict[str, Any] = modules(found, prediction, _dtypes(ref, precision, device))
    return _Parts(
        family=family,
        tokenizers={
            part: find_tokenizer(found.file, configured[part], "!" if open_clip else None)
            for part, (_, _, open_clip) in zip(family.text_encoders, TEXT_ENCODERS[found.family], strict=True)
        },
        vae=made["vae"],
        parts={part: made[part] for part in family.parts},
        scheduler=configured["scheduler"],
        zero_empty=family.conditions,
    )


def local_path(ref: BaseRef) -> Path:
    """Where the base lies; a hub id that is not here yet is downloaded first. Raises BaseUnusable where that fails."""
    return ref.path or _download(ref)


def _download(ref: BaseRef) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(ref.source, allow_patterns=_WANTED))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise BaseUnusable(
            Text(
                f"The base {ref.name} is not on this machine and could not be downloaded. Check the name and the network, or give a folder.",
                f"基礎モデル {ref.name} はこのマシンになく、ダウンロードもできませんでした。名前とネットワークを確認するか、フォルダーを指定してください。",
            )
        ) from error
