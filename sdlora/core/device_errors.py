"""What an exception of torch, CUDA or NCCL means: out of memory, card not supported, driver too old, GPU lost. Decided here once.

By the class's name and the message, so that torch is not imported. Lower-case fragments, as torch 2.13 and CUDA 13 write them.
"""

from __future__ import annotations

import re

from sdlora.core.errors import DeviceLost, DeviceUnsupported, OutOfMemory, SdloraError
from sdlora.core.text import Text

_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, HIP and MPS allocators, CUDA error, CUDA driver error, NCCL's "Cuda failure 2"
    "not enough memory",
    "can't allocate memory",
    "alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED
    "allocation_failed",  # CUDNN_STATUS_…_ALLOCATION_FAILED
    "unable to find an engine",  # cuDNN, when there is no room for any engine's workspace
    "valid cudnn algorithm",
)
_UNSUPPORTED = ("no kernel image is available", "is not compatible with the current pytorch installation")
_OLD_DRIVER = ("driver version is insufficient", "nvidia driver on your system is too old")
_LOST = ("cuda error", "nccl error", "cuda driver error", "cublas_status", "cudnn_status")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether less at a time might fit: memory of a GPU or of the machine ran out."""
    message = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or any(words in message for words in _OUT_OF_MEMORY)


def missing_memory(message: str) -> str:
    """How much an allocator asked for, by its own words: "2.00 GiB"; else "more"."""
    asked = re.search(r"allocate ([\d.]+ ?[KMG]i?B)|allocate (\d+) bytes", message)
    return (asked[1] or f"{int(asked[2]) / 1e9:.1f} GB") if asked else "more"


def device_error(error: BaseException) -> SdloraError | None:
    """The error of ours that an exception about a device means; None for any other exception."""
    if is_out_of_memory(error):
        return OutOfMemory(
            Text(
                "There is not enough memory for these settings. Lower the batch size or the resolution, or turn gradient checkpointing on.",
                "この設定ではメモリが足りません。バッチサイズか解像度を下げるか、勾配チェックポイントをオンにしてください。",
            )
        )
    message = str(error).lower()
    first = (str(error).strip().splitlines() or [""])[0][:300]
    if any(words in message for words in _UNSUPPORTED):
        return DeviceUnsupported(
            Text(
                f"This GPU is too old for the installed PyTorch: {first}. Install a PyTorch that is built for it, or set CUDA_VISIBLE_DEVICES to another GPU.",
                f"この GPU はインストールされている PyTorch では使えません: {first}。この GPU に対応した PyTorch を入れるか、CUDA_VISIBLE_DEVICES で別の GPU を指定してください。",
            )
        )
    if any(words in message for words in _OLD_DRIVER):
        return DeviceUnsupported(
            Text(
                f"The NVIDIA driver is too old for the installed PyTorch: {first}. Update the driver.",
                f"NVIDIA ドライバーがインストールされている PyTorch には古すぎます: {first}。ドライバーを更新してください。",
            )
        )
    if type(error).__name__ == "AcceleratorError" or any(words in message for words in _LOST):
        return DeviceLost(Text(f"The GPU does not answer any more: {first}", f"GPU が応答しません: {first}"))
    return None
