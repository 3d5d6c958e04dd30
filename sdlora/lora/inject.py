"""Put LoRA adapters into a base's layers through PEFT, and set how strongly they act."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from sdlora.errors import BadInput
from sdlora.lora.targets import Part, Shape, pattern
from sdlora.text import Text

ADAPTER = "sdlora"


@dataclass(frozen=True)
class Adapters:
    """All adapters of a LoRA while it is inside a base: part -> module path -> PEFT layer.

    Each layer computes W x + strength * (alpha / rank) * B A x with A (rank, in) and B (out, rank), B = 0 at first
    (arXiv 2106.09685, section 4.1). A and B are fp32 whatever the base is in.
    """

    parts: dict[Part, dict[str, LoraLayer]]

    def matrices(self) -> dict[str, nn.Parameter]:
        """Every A and B by a stable name: `unet.<path>.lora_A`."""
        return {
            f"{part}.{path}.{side}": getattr(layer, side)[ADAPTER].weight
            for part, layers in self.parts.items()
            for path, layer in layers.items()
            for side in ("lora_A", "lora_B")
        }

    def parameters_of(self, part: Part) -> list[nn.Parameter]:
        return [p for name, p in self.matrices().items() if name.startswith(f"{part}.")]

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.matrices().values())

    def set_strength(self, strength: float) -> None:
        """1 is what was trained; 0 gives the base's own output bit for bit."""
        for layers in self.parts.values():
            for layer in layers.values():
                layer.set_scale(ADAPTER, strength)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy matrices back in, by the names of `matrices`; those not named stay."""
        for name, parameter in self.matrices().items():
            if name in tensors:
                parameter.copy_(tensors[name])


def inject(models: dict[Part, nn.Module], shape: Shape, seed: int) -> Adapters:
    """Add untrained adapters to each model, in place. The global random state is left as it was.

    Raises:
        BadInput: a model has no layer that the shape names.
    """
    parts: dict[Part, dict[str, LoraLayer]] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part, model in models.items():
            _refuse_no_layer(part, model, shape)
            inject_adapter_in_model(_peft_config(part, shape), model, adapter_name=ADAPTER)
            parts[part] = {path: m for path, m in model.named_modules() if isinstance(m, LoraLayer)}
    adapters = Adapters(parts)
    for parameter in adapters.matrices().values():
        parameter.data = parameter.data.float()
    return adapters


def _refuse_no_layer(part: Part, model: nn.Module, shape: Shape) -> None:
    wanted = re.compile(pattern(part, shape.targets, shape.blocks))
    if not any(wanted.fullmatch(path) for path, _ in model.named_modules()):
        raise BadInput(
            Text(
                f"No layer of the {part} fits lora.targets={shape.targets} and lora.blocks={shape.blocks!r}. Blocks are named like up_blocks.0.attentions.1.",
                f"{part} には lora.targets={shape.targets}、lora.blocks={shape.blocks!r} に当てはまる層がありません。ブロックは up_blocks.0.attentions.1 のように書きます。",
            )
        )


def eject(models: dict[Part, nn.Module]) -> None:
    """Take all adapters out again: the base's own layers come back in their places."""
    for model in models.values():
        for path, layer in [(p, m) for p, m in model.named_modules() if isinstance(m, LoraLayer)]:
            model.set_submodule(path, layer.get_base_layer())
        if hasattr(model, "peft_config"):
            del model.peft_config


def _peft_config(part: Part, shape: Shape) -> LoraConfig:
    return LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,
        target_modules=pattern(part, shape.targets, shape.blocks),
        lora_dropout=shape.dropout,
        bias="none",
    )
