"""What an adapter looks like: its configuration, the layers that get one, the parameters that it trains. By names and shapes, without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sdlora.adapters.kind_spec import AdapterKind
from sdlora.adapters.kinds import KINDS
from sdlora.families.spec import Part

Targets = Literal["attention", "attention+ff", "attention+ff+conv"]

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
    """What decides the adapters' shapes and scale; the fields are the settings of the section `lora`."""

    rank: int
    alpha: float
    targets: Targets
    blocks: str = ""  # parts of UNet paths, separated by commas; "" = all
    dropout: float = 0.0
    kind: str = "lora"  # a key of `KINDS`
    text_encoder_rank: int = 0  # 0 = the same rank

    @property
    def adapter_kind(self) -> AdapterKind:
        return KINDS[self.kind]

    @property
    def scale(self) -> float:
        """What the trained change is multiplied with: alpha / rank, times the kind's own factor."""
        return self.alpha_of(self.rank) / self.rank

    def rank_of(self, part: Part) -> int:
        return self.rank if part == "unet" else self.text_encoder_rank or self.rank

    def alpha_of(self, rank: int) -> float:
        """The alpha to write beside a layer of this rank: readers divide it by that rank, and all layers have one scale."""
        return self.alpha * self.adapter_kind.alpha_factor(self.rank) * (rank / self.rank)


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
    wanted, rank = re.compile(pattern(part, config.targets, config.blocks)), config.rank_of(part)
    return sum(
        config.adapter_kind.parameters(weight, rank)
        for name, weight in shapes.items()
        if name.endswith(".weight") and wanted.fullmatch(name.removesuffix(".weight"))
    )
