"""Put adapters into a base's layers through PEFT, and set how strongly they act."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from peft import inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from sdlora.adapters.dropout import BatchSlice, Dropout
from sdlora.adapters.fused_attention import Projections, fuse, refresh, unfuse
from sdlora.adapters.kind_spec import ADAPTER
from sdlora.adapters.lora_layers import refresh_working_copies
from sdlora.adapters.spec import AdapterConfig, target_pattern
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.families.spec import LoraLayout, Part


@dataclass(frozen=True)
class Adapters:
    """All adapters of a LoRA while it is inside a base: part -> module path -> PEFT layer.

    A plain LoRA's layer computes W x + strength * (alpha / rank) * B A x with A (rank, in) and B (out, rank), B = 0 at first
    (arXiv 2106.09685, section 4.1). All that is trained is fp32 whatever the base is in.
    """

    parts: dict[Part, dict[str, BaseTunerLayer]]
    config: AdapterConfig
    batch_slice: BatchSlice = field(default_factory=BatchSlice)  # the rows of the batch that the next pass computes
    projections: list[Projections] = field(default_factory=list)  # of blocks that train fused, see `fuse`

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Everything trained by a stable name: `unet.<path>.lora_A`."""
        return {
            f"{part}.{path}.{name}": parameter
            for part, layers in self.parts.items()
            for path, layer in layers.items()
            for name, parameter in trainable_parameters(layer).items()
        }

    def parameters_of(self, part: Part) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters().items() if name.startswith(f"{part}.")]

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.named_parameters().values())

    def set_strength(self, strength: float) -> None:
        """1 is what was trained; 0 gives the base's own output bit for bit."""
        for layers in self.parts.values():
            for layer in layers.values():
                self.config.adapter_kind.set_strength(layer, strength)

    @torch.no_grad()
    def delta_weight(self, layer: BaseTunerLayer) -> Tensor:
        """What the adapter in `layer` adds to its weight at strength 1, in fp32 and the weight's shape."""
        return self.config.adapter_kind.delta(layer)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy values back in, by the names of `named_parameters`; those not named stay."""
        for name, parameter in self.named_parameters().items():
            if name in tensors:
                parameter.copy_(tensors[name])
        self.refresh()

    def refresh(self) -> None:
        """To be called after an optimizer's step: what layers compute with follows the parameters."""
        refresh_working_copies(layer for layers in self.parts.values() for layer in layers.values())
        refresh(self.projections)

    def fuse(self, model: nn.Module) -> None:
        """Let the attention of a model that these adapters are in train as few large products instead of many small ones."""
        self.projections.extend(fuse(model))


def trainable_parameters(layer: BaseTunerLayer) -> dict[str, nn.Parameter]:
    """What PEFT trains in a layer, by its names: `lora_A` and `lora_B`, or `hada_w1_a`, …"""
    found = {}
    for name in layer.adapter_layer_names:
        holder = getattr(layer, name)
        if holder and ADAPTER in holder:
            value = holder[ADAPTER]
            found[name] = value if isinstance(value, nn.Parameter) else value.weight
    return found


def inject(models: dict[Part, nn.Module], layout: LoraLayout, config: AdapterConfig, seed: int) -> Adapters:
    """Add untrained adapters to each model, in place. The global random state is left as it was.

    Raises:
        BadInput: a model has no layer that the config selects.
    """
    parts: dict[Part, dict[str, BaseTunerLayer]] = {}
    batch_slice = BatchSlice()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part, model in models.items():
            rank, targets = config.rank_of(part), target_pattern(layout, part, config.targets, config.blocks)
            _refuse_no_layer(part, model, config, targets)
            peft_config = config.adapter_kind.peft_config(rank, config.alpha_of(rank), targets, config.dropout)
            inject_adapter_in_model(peft_config, model, adapter_name=ADAPTER)
            parts[part] = layers_of(model)
            for layer in parts[part].values():
                config.adapter_kind.prepare(layer)
                if config.dropout:
                    layer.lora_dropout[ADAPTER] = Dropout(config.dropout, batch_slice)
    adapters = Adapters(parts, config, batch_slice)
    for parameter in adapters.named_parameters().values():
        parameter.data = parameter.data.float()
    return adapters


def layers_of(model: nn.Module) -> dict[str, BaseTunerLayer]:
    return {path: m for path, m in model.named_modules() if isinstance(m, BaseTunerLayer)}


def _refuse_no_layer(part: Part, model: nn.Module, config: AdapterConfig, targets: str) -> None:
    wanted = re.compile(targets)
    if not any(wanted.fullmatch(path) for path, _ in model.named_modules()):
        raise BadInput(
            Text(
                f"No layer of the {part} fits lora.targets={config.targets} and lora.blocks={config.blocks!r}. Blocks are named like up_blocks.0.attentions.1.",
                f"{part} には lora.targets={config.targets}、lora.blocks={config.blocks!r} に当てはまる層がありません。ブロックは up_blocks.0.attentions.1 のように書きます。",
            )
        )


def eject(models: dict[Part, nn.Module]) -> None:
    """Take all adapters out again: the base's own layers come back in their places."""
    for model in models.values():
        unfuse(model)
        for path, layer in layers_of(model).items():
            model.set_submodule(path, layer.get_base_layer())
        if hasattr(model, "peft_config"):
            del model.peft_config
