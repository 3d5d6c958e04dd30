"""What an adapter looks like: its configuration, the layers that get one, the parameters that it trains. By names and shapes, without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sdlora.adapters.kind_spec import AdapterKind
from sdlora.adapters.kinds import KINDS
from sdlora.families.spec import LoraLayout, Part, is_text_encoder

Targets = Literal["attention", "attention+ff", "attention+ff+conv"]


@dataclass(frozen=True)
class AdapterConfig:
    """What decides the adapters' shapes and scale; the fields are the settings of the section `lora`."""

    rank: int
    alpha: float
    targets: Targets
    blocks: str = ""  # parts of the denoiser's module paths, separated by commas; "" = all
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
        return (is_text_encoder(part) and self.text_encoder_rank) or self.rank

    def alpha_of(self, rank: int) -> float:
        """The alpha to write beside a layer of this rank: readers divide it by that rank, and all layers have one scale."""
        return self.alpha * self.adapter_kind.alpha_factor(self.rank) * (rank / self.rank)


def target_pattern(layout: LoraLayout, part: Part, targets: str, blocks: str = "") -> str:
    """A regular expression that the whole module path must match (PEFT's `target_modules` takes it as it is).

    `blocks` narrows the denoiser to paths that hold one of its names, whole between dots, `*` standing for anything.
    """
    pattern = layout.targets[part][targets]
    names = [re.escape(word.strip()).replace(r"\*", ".*") for word in blocks.split(",") if word.strip()]
    if is_text_encoder(part) or not names:
        return pattern
    return rf"(?=(.*\.)?({'|'.join(names)})(\.|$))" + pattern


def count_adapter_parameters(
    layout: LoraLayout, part: Part, shapes: Mapping[str, tuple[int, ...]], config: AdapterConfig
) -> int:
    """Trained parameters over all targets of the part among `shapes` (weight name -> (out, in, …))."""
    wanted, rank = re.compile(target_pattern(layout, part, config.targets, config.blocks)), config.rank_of(part)
    return sum(
        config.adapter_kind.parameters(weight, rank)
        for name, weight in shapes.items()
        if name.endswith(".weight") and wanted.fullmatch(name.removesuffix(".weight"))
    )
