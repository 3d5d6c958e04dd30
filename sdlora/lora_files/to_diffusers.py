"""A plain LoRA as diffusers cannot misread it: its own names, one rank, scale 1.

diffusers 0.42 drops keys that it does not know without a word, gives most modules of a kohya file one alpha, knows a text encoder only by
its `out_proj`, and does not read a PEFT folder at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sdlora.lora_files.layers import Layer, Lora
from sdlora.lora_files.merge import merge


def to_diffusers_state_dict(layers: Sequence[Layer]) -> dict[str, Tensor]:
    """Every layer in fp32 by the names that `load_lora_weights` takes: `unet.<path>.lora_A.weight`."""
    even = merge([(Lora(tuple(layers), "unknown", {}), 1.0)], torch.float32)
    downs = {f"{x.part}.{x.path}.lora_A.weight": x.down for x in even.layers}
    return downs | {f"{x.part}.{x.path}.lora_B.weight": x.up for x in even.layers}
