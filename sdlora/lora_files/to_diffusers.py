"""Files that diffusers would misread or refuse, in a form that it reads right: one rank, scale 1, its own names.

diffusers 0.42 gives most modules of a kohya file one alpha and knows a text encoder only by its `out_proj`; a PEFT folder it does
not read at all. What it reads right goes to it as it is, so that a preview shows what the file means elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sdlora.families.spec import is_text_encoder
from sdlora.lora_files.inspect import inspect_file
from sdlora.lora_files.layers import Lora
from sdlora.lora_files.merge import merge
from sdlora.lora_files.read import read_lora


def to_diffusers_state_dict(path: Path, reads_kohya: bool = True) -> dict[str, Tensor] | None:
    """The LoRA by diffusers' names, or None where the file itself will do; `reads_kohya`: diffusers knows this family's kohya names.

    Raises:
        BadInput: no LoRA, or a damaged one.
    """
    inspection = inspect_file(path, digest=False)
    if inspection.network not in ("lora", "locon"):
        return None
    lora = read_lora(path)
    if path.is_file() and reads_kohya and all(_is_even(lora, inspection.format, part) for part in lora.parts):
        return None
    even = merge([(lora, 1.0)], torch.float32)
    downs = {f"{x.part}.{x.path}.lora_A.weight": x.down for x in even.layers}
    return downs | {f"{x.part}.{x.path}.lora_B.weight": x.up for x in even.layers}


def _is_even(lora: Lora, format: str, part: str) -> bool:
    layers = [x for x in lora.layers if x.part == part]
    one = len({x.rank for x in layers}) == 1 and len({x.alpha for x in layers}) == 1
    return one and (format != "kohya" or not is_text_encoder(part) or any("out_proj" in x.path for x in layers))
