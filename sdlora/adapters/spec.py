"""Which layers get adapters, and how many parameters that is; by names and shapes alone, without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt, prod, sqrt
from typing import Literal

from sdlora.families.spec import Part

Targets = Literal["attention", "attention+ff", "attention+ff+conv"]
Kind = Literal["lora", "rslora", "dora", "loha", "lokr"]
PLAIN: tuple[Kind, ...] = ("lora", "rslora")  # two matrices a layer: what every program and format holds

# Module paths inside diffusers' UNet2DConditionModel and transformers' CLIPTextModel. The widest choice is what sd-scripts can
# hold: its networks know these module kinds and drop the rest (conv_in, conv_out, time_embedding) without a word.
_ATTENTION = r"attn[12]\.(to_q|to_k|to_v|to_out\.0)"
_FF = r"ff\.net\.(0\.proj|2)"
_CONV = r"proj_in|proj_out|resnets\.\d+\.(conv1|conv2|conv_shortcut|time_emb_proj)|(downsamplers|upsamplers)\.0\.conv"
_UNET: dict[Targets, str] = {
    "attention": rf".*\.({_ATTENTION})",
    "attention+ff": rf".*\.({_ATTENTION}|{_FF})",
    "attention+ff+conv": rf".*\.({_ATTENTION}|{_FF}|{_CONV})",
}
_TEXT_ATTENTION = r".*\.self_attn\.(q_proj|k_proj|v_proj|out_proj)"
_TEXT_ALL = r".*\.(self_attn\.(q_proj|k_proj|v_proj|out_proj)|mlp\.(fc1|fc2))"
_TEXT: dict[Targets, str] = {
    "attention": _TEXT_ATTENTION,
    "attention+ff": _TEXT_ALL,
    "attention+ff+conv": _TEXT_ALL,  # CLIP's text encoder has no convolutions
}


@dataclass(frozen=True)
class AdapterConfig:
    """What decides the adapters' form; its fields are the settings of the section `lora`."""

    rank: int
    alpha: float
    targets: Targets
    blocks: str = ""  # parts of UNet paths, separated by commas; "" = all
    dropout: float = 0.0
    kind: Kind = "lora"
    text_encoder_rank: int = 0  # 0 = the same rank

    @property
    def scale(self) -> float:
        """What the trained change is multiplied with: alpha / rank, for rsLoRA alpha / sqrt(rank) (arXiv 2312.03732)."""
        return self.alpha_of(self.rank) / self.rank

    def rank_of(self, part: Part) -> int:
        return self.rank if part == "unet" else self.text_encoder_rank or self.rank

    def alpha_of(self, rank: int) -> float:
        """The alpha with which a layer of this rank has the one scale, where a reader takes alpha / rank."""
        return self.alpha * (sqrt(self.rank) if self.kind == "rslora" else 1.0) * (rank / self.rank)


def pattern(part: Part, targets: Targets, blocks: str = "") -> str:
    """A regular expression that the whole module path must match (PEFT's `target_modules` takes it as it is).

    `blocks` narrows the UNet to paths that hold one of its names, whole between dots, `*` standing for anything.
    """
    names = [re.escape(word.strip()).replace(r"\*", ".*") for word in blocks.split(",") if word.strip()]
    if part != "unet":
        return _TEXT[targets]
    return (rf"(?=(.*\.)?({'|'.join(names)})(\.|$))" if names else "") + _UNET[targets]


def count_adapter_parameters(shapes: Mapping[str, tuple[int, ...]], part: Part, config: AdapterConfig) -> int:
    """Trained parameters over all targets among `shapes` (weight name -> (out, in, …))."""
    wanted = re.compile(pattern(part, config.targets, config.blocks))
    return sum(
        _parameters(weight, config.kind, config.rank_of(part))
        for name, weight in shapes.items()
        if name.endswith(".weight") and wanted.fullmatch(name.removesuffix(".weight"))
    )


def _parameters(weight: tuple[int, ...], kind: Kind, rank: int) -> int:
    """Of one layer. A is rank × in, B out × rank; DoRA has a magnitude for each input; LoHa is two pairs (arXiv 2108.06098);
    LoKr's two factors are full where a low rank would save nothing (arXiv 2309.14859)."""
    out, inputs, inside = weight[0], weight[1], prod(weight[1:])
    pair = rank * (out + inside)
    if kind == "lokr":
        (a, b), (c, d) = factors(out), factors(inputs)
        kernel = inside // inputs
        return a * c + (b * d * kernel if 2 * rank >= max(b, d) else rank * (b + d * kernel))
    return {"dora": pair + inputs, "loha": 2 * pair}.get(kind, pair)


def factors(size: int) -> tuple[int, int]:
    """LoKr's two factors of a side: as near to its square root as whole numbers come, the smaller first."""
    small = next(k for k in range(isqrt(size), 0, -1) if size % k == 0)
    return small, size // small
