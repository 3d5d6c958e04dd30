"""Optimizers by name, their parameter groups, and their state as tensors and back, so that a run resumes exactly."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from sdlora.adapters.inject import Adapters
from sdlora.config import TrainSettings
from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.families.spec import is_text_encoder

_PACKAGES = {"adamw8bit": "bitsandbytes", "prodigy": "prodigyopt"}


def groups_of(adapters: Adapters, t: TrainSettings) -> tuple[list[dict[str, Any]], list[float]]:
    """Parameter groups, and the learning rate of each: by part, and with LoRA+ B apart from the rest (arXiv 2402.12354)."""
    groups, rates = [], []
    fast_parameters = adapters.config.adapter_kind.fast_parameters
    for part in adapters.parts:
        rate = t.text_encoder_lr if is_text_encoder(part) else t.unet_lr
        named = {n: p for n, p in adapters.named_parameters().items() if n.startswith(f"{part}.")}
        fast = {n: p for n, p in named.items() if t.lora_plus > 1 and n.endswith(fast_parameters)}
        for chosen, factor in (({n: p for n, p in named.items() if n not in fast}, 1.0), (fast, t.lora_plus)):
            if chosen:
                groups.append({"params": list(chosen.values()), "lr": rate * factor})
                rates.append(rate * factor)
    return groups, rates


def make(groups: list[dict[str, Any]], t: TrainSettings, fused: bool) -> torch.optim.Optimizer:
    """The chosen optimizer.

    Raises:
        BadInput: its package is not installed.
    """
    package = _PACKAGES.get(t.optimizer)
    if package and find_spec(package) is None:
        raise BadInput(
            Text(
                f"train.optimizer={t.optimizer} needs the package {package}: pip install {package}, or choose adamw.",
                f"train.optimizer={t.optimizer} には {package} が必要です。pip install {package} を実行するか、adamw を選んでください。",
            )
        )
    if t.optimizer == "adamw8bit":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(groups, weight_decay=t.weight_decay)
    if t.optimizer == "prodigy":
        from prodigyopt import Prodigy

        with contextlib.redirect_stdout(io.StringIO()):  # it tells that its weight decay is decoupled
            return Prodigy(groups, weight_decay=t.weight_decay, use_bias_correction=True, safeguard_warmup=True)
    if t.optimizer == "adafactor":
        from transformers import Adafactor

        # absolute rates: torch's own Adafactor moves a B of zeros by a thousandth of the rate
        return Adafactor(groups, weight_decay=t.weight_decay, scale_parameter=False, relative_step=False)
    # fused: one kernel for all adapters instead of a few for each of hundreds
    return torch.optim.AdamW(groups, weight_decay=t.weight_decay, fused=fused)


def state_for(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """The optimizer's state of one parameter as tensors; a plain number becomes one under a name that ends in `#`."""
    state = optimizer.state.get(parameter, {})
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    return tensors | {f"{name}#": torch.tensor(value) for name, value in state.items() if name not in tensors}


def load_state_for(
    optimizer: torch.optim.Optimizer, parameter: Tensor, tensors: Mapping[str, Tensor], fused: bool
) -> None:
    """Put back what `state_for` gave. AdamW keeps its step count on the parameter's device only where it is fused."""
    state: dict[str, Any] = {}
    for name, value in tensors.items():
        if name.endswith("#"):
            state[name.removesuffix("#")] = value.item()
        else:
            state[name] = value if name == "step" and not fused else value.to(parameter.device)
    optimizer.state[parameter] = state


def group_scalars(optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
    """Finite numbers that it keeps for a whole group: Prodigy's estimate of the rate. The learning rate follows from the step."""
    return [
        {
            k: v
            for k, v in group.items()
            if type(v) in (int, float) and math.isfinite(v) and k not in ("lr", "initial_lr")
        }
        for group in optimizer.param_groups
    ]
