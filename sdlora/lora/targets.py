"""Which layers get adapters, and how many parameters that is; by names and shapes alone, without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Literal

Targets = Literal["attention", "attention+ff", "all"]  # all: what sd-scripts can hold, convolutions too
Part = Literal["unet", "text_encoder", "text_encoder_2"]

_TEXT_ATTENTION = r".*\.self_attn\.(q_proj|k_proj|v_proj|out_proj)"
_TEXT_ALL = r".*\.(self_attn\.(q_proj|k_proj|v_proj|out_proj)|mlp\.(fc1|fc2))"
_TEXT: dict[Targets, str] = {"attention": _TEXT_ATTENTION, "attention+ff": _TEXT_ALL, "all": _TEXT_ALL}

# Module paths inside diffusers' UNet2DConditionModel and transformers' CLIPTextModel.
_PATTERNS: dict[Part, dict[Targets, str]] = {
    "unet": {
        "attention": r".*\.attn[12]\.(to_q|to_k|to_v|to_out\.0)",
        "attention+ff": r".*\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2))",
        "all": r".*\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2)|proj_in|proj_out"
        r"|resnets\.\d+\.(conv1|conv2|conv_shortcut|time_emb_proj)|(downsamplers|upsamplers)\.0\.conv)",
    },
    "text_encoder": _TEXT,
    "text_encoder_2": _TEXT,
}


def pattern(part: Part, targets: Targets) -> str:
    """A regular expression that the whole module path must match (PEFT's `target_modules` takes it as it is)."""
    return _PATTERNS[part][targets]


def adapter_parameters(shapes: Mapping[str, tuple[int, ...]], part: Part, targets: Targets, rank: int) -> int:
    """Parameters of A (rank × in) and B (out × rank) over all targets among `shapes` (weight name -> (out, in, …))."""
    wanted = re.compile(pattern(part, targets) + r"\.weight")
    return sum(rank * (shape[0] + prod(shape[1:])) for name, shape in shapes.items() if wanted.fullmatch(name))
