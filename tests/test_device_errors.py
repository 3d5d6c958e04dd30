"""What a library's exception means: decided once, by its message."""

from __future__ import annotations

import pytest
import torch

from sdlora.core.device_errors import device_error, is_out_of_memory, missing_memory
from sdlora.core.errors import DeviceLost, DeviceUnsupported, OutOfMemory
from sdlora.processes.worker import classify

MEANS: dict[str, type[Exception] | None] = {
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.92 GiB": OutOfMemory,
    "CUDA error: out of memory": OutOfMemory,
    "CUDA driver error: out of memory": OutOfMemory,
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`": OutOfMemory,
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED": OutOfMemory,
    "GET was unable to find an engine to execute this computation": OutOfMemory,
    "NCCL Error 1: unhandled cuda error. Last error: Cuda failure 2 'out of memory'": OutOfMemory,
    "MPS backend out of memory (MPS allocated: 17.99 GB)": OutOfMemory,
    "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes": OutOfMemory,
    "DefaultCPUAllocator: not enough memory: you tried to allocate 68719476736 bytes.": OutOfMemory,
    "CUDA error: no kernel image is available for execution on the device": DeviceUnsupported,
    "The NVIDIA driver on your system is too old (found version 11040).": DeviceUnsupported,
    "CUDA error: CUDA driver version is insufficient for CUDA runtime version": DeviceUnsupported,
    "CUDA error: unspecified launch failure": DeviceLost,
    "CUDA error: device-side assert triggered": DeviceLost,
    "NCCL error: remote process exited or there was a network error": DeviceLost,
    "mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)": None,
}


@pytest.mark.parametrize(("message", "meant"), MEANS.items())
def test_a_message_means_one_thing_to_the_ladder_and_to_the_worker(message: str, meant: type[Exception] | None) -> None:
    error = RuntimeError(message)
    found = device_error(error)
    assert type(found) is meant if meant else found is None
    assert is_out_of_memory(error) == (meant is OutOfMemory)
    if meant:
        assert type(classify(error)) is meant
        assert found is not None
        assert found.text.en
        assert found.text.ja


def test_classes_count_where_messages_say_nothing() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError(""))
    assert type(device_error(torch.AcceleratorError("unknown"))) is DeviceLost


@pytest.mark.parametrize(
    ("message", "amount"),
    [
        ("Tried to allocate 2.00 GiB. GPU", "2.00 GiB"),
        ("tried to allocate 68719476736 bytes", "68.7 GB"),
        ("?", "more"),
    ],
)
def test_what_is_missing_is_said_by_the_allocator(message: str, amount: str) -> None:
    assert missing_memory(message) == amount
