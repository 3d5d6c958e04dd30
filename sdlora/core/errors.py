"""All errors of sdlora, each with a sentence in both languages that a person can act on.

SdloraError
├── BadInput          invalid settings, files or ids                            exit 2 (64 from a worker)
├── BaseUnusable      the base model is missing, changed or of no known family  exit 2 (64 from a worker)
├── DiskFull          no room to save the state; resumed when there is          exit 74
├── DeviceLost        the GPU does not answer; retried in a fresh process       exit 75
├── DeviceUnsupported the GPU or its driver is too old for this PyTorch         exit 69
├── Unloadable        the written file differs from what was trained             exit 70
├── OutOfMemory       a step does not fit into memory with these settings       exit 71
├── Diverged          loss or gradients are not finite any more                 exit 76
└── Unmoved           the adapters still have their initial values               exit 77
"""

from __future__ import annotations

import errno

from sdlora.core.text import Text

MIN_FREE_BYTES = 64 << 20  # that must be free before a worker starts again after a full disk


class SdloraError(Exception):
    """Carries a `Text`: what happened, what was expected, what to do."""

    exit_code = 1

    def __init__(self, text: Text):
        super().__init__(text.en)
        self.text = text


class BadInput(SdloraError):
    exit_code = 2


class BaseUnusable(SdloraError):
    exit_code = 2


class DiskFull(SdloraError):
    """`needed` is how many bytes must be free to go on; 0 = not known."""

    exit_code = 74

    def __init__(self, text: Text, needed: int = 0):
        super().__init__(text)
        self.needed = needed


def is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full(needed: int = MIN_FREE_BYTES, free: int | None = None) -> DiskFull:
    """The one sentence for a training that stops because the disk is full; bytes, `free` None = not known."""
    has = ("", "") if free is None else (f", {free >> 20} MB are free", f"、空き {free >> 20} MB")
    return DiskFull(
        Text(
            f"The disk is full: this needs {needed >> 20} MB{has[0]}. The last saved state stands; training goes on by itself when there is room.",
            f"ディスクがいっぱいです(必要 {needed >> 20} MB{has[1]})。最後に保存した状態は残っており、空きができると自動的に再開します。",
        ),
        needed,
    )


class DeviceLost(SdloraError):
    exit_code = 75


class DeviceUnsupported(SdloraError):
    exit_code = 69


class Unloadable(SdloraError):
    exit_code = 70


class OutOfMemory(SdloraError):
    exit_code = 71


class Diverged(SdloraError):
    exit_code = 76


class Unmoved(SdloraError):
    exit_code = 77
