"""bf16 where the processor computes in it; elsewhere it is emulated, twenty times slower than fp32."""

from __future__ import annotations

import torch

HALF = torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32


def autocast() -> torch.autocast:
    """The number format of the recipe's forward passes."""
    return torch.autocast("cpu", torch.bfloat16, enabled=HALF is torch.bfloat16)
