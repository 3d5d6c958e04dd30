"""Device and number format of every part of a base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from sdlora.core.safetensors_io.dtypes import torch_dtype

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


def allow_tf32(device: torch.device) -> None:
    """Let a GPU multiply fp32 matrices in TF32, as it does in convolutions already: with fp32's range and 10 bits of mantissa,
    more than bf16 has, at 3 to 8 times the speed. A CPU keeps fp32: its bytes are promised."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


@dataclass(frozen=True)
class Dtypes:
    """Number formats of a loaded base. Where they differ, latents are cast when they go into the VAE (`families.autoencoder`)."""

    weights: torch.dtype  # of denoiser and text encoders
    vae: torch.dtype


def resolve_dtypes(precision: Precision, device: torch.device, parameters: int) -> Dtypes:
    """The VAE overflows in fp16 on many bases: it gets bf16 or fp32, never fp16."""
    weights = resolve_dtype(precision, device, parameters)
    return Dtypes(weights, torch.float32 if weights == torch.float16 else weights)
