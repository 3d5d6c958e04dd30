"""A trainer as a state and back: everything that the next step depends on."""

from __future__ import annotations

import torch
from torch import Tensor

from sdlora.train.optimizer import group_scalars, load_state_for, state_for
from sdlora.train.state import State
from sdlora.train.trainer import Trainer


def capture(trainer: Trainer) -> State:
    """The state after `trainer.done` updates. Call it while `trainer.changing` is held."""
    tensors: dict[str, Tensor] = {f"{name}:average": value for name, value in trainer.ema_weights.items()}
    for name, parameter in trainer.adapters.named_parameters().items():
        tensors[name] = trainer.live_weights.get(name, parameter.data)
        for slot, value in state_for(trainer.optimizer, parameter).items():
            tensors[f"{name}:{slot}"] = value
    facts = {
        "threads": torch.get_num_threads(),
        "skipped": trainer.skipped,
        "numbers": group_scalars(trainer.optimizer),
        "scaler": trainer.scaler.state_dict(),
        "pieces": trainer.micro_batches,
        "checkpointing": trainer.base.unet.is_gradient_checkpointing,
    }
    return State(trainer.step, tensors, facts)


def restore(trainer: Trainer, state: State) -> None:
    """Continue as if never stopped."""
    trainer.step = state.step
    trainer.adapters.load(state.tensors)
    for name, parameter in trainer.adapters.named_parameters().items():
        slots = {k.split(":")[1]: v for k, v in state.tensors.items() if k.startswith(f"{name}:")}
        if "average" in slots:
            trainer.ema_weights[name] = slots.pop("average").to(parameter.device)
        if slots:
            load_state_for(trainer.optimizer, parameter, slots, trainer.fused)
    for group, numbers in zip(trainer.optimizer.param_groups, state.facts.get("numbers", []), strict=False):
        group.update(numbers)
    facts = state.facts
    trainer.skipped[:], trainer.micro_batches = facts["skipped"], facts["pieces"]
    if facts["checkpointing"]:
        trainer.base.unet.enable_gradient_checkpointing()
    if trainer.scaler.is_enabled():
        trainer.scaler.load_state_dict(facts["scaler"])
