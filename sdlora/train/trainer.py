"""A base with adapters inside and all that lives through a run: what is trained, on what, and how far it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sdlora.adapters.inject import Adapters
from sdlora.config import Config
from sdlora.core.text import Text
from sdlora.families.base_model import Base
from sdlora.families.conditioning import Conditioning
from sdlora.train.distributed import SINGLE_PROCESS, World
from sdlora.train.latents import TrainingItem
from sdlora.train.optimizer import groups_of, make


@dataclass
class Trainer:
    """Base, adapters, optimizer and training items of a run, and the counters that change with each step."""

    base: Base
    adapters: Adapters
    items: Sequence[TrainingItem]
    text_cache: (
        dict[str, Conditioning] | None
    )  # every caption encoded, where text encoders are frozen and captions not too many
    settings: Config
    world: World = SINGLE_PROCESS
    step: int = 0  # optimizer updates made
    micro_batches: int = 1  # that each batch is cut into since memory ran out
    warn: Callable[[Text], None] = lambda text: None  # is told what is computed in parts since memory ran out
    evaluation_rows: int = 8  # noise levels of a held-out picture evaluated at once; fewer since memory ran out
    skipped: list[int] = field(default_factory=list)  # steps whose gradient was not finite
    live_weights: dict[str, Tensor] = field(default_factory=dict)  # set aside while the EMA weights stand in for them
    weights_lock: threading.Lock = field(
        default_factory=threading.Lock
    )  # held while weights change or a state is written

    def __post_init__(self) -> None:
        t = self.settings.train
        groups, self.rates = groups_of(self.adapters, t)
        self.fused = self.base.device.type != "mps"
        self.optimizer = make(groups, t, self.fused)
        self.optimizer.register_step_post_hook(lambda *_: self.adapters.refresh())
        self.objective = self.base.family.objective(self.base.scheduler, self.base.prediction)
        self.scaler = torch.amp.GradScaler(self.base.device.type, enabled=self.base.dtype == torch.float16)
        self.parameters = self.adapters.named_parameters()  # of hundreds of layers: walked once, not in every step
        self.ema_weights = {name: p.detach().clone() for name, p in self.parameters.items()} if t.ema else {}

    @property
    def modules(self) -> list[nn.Module]:
        return [*self.base.parts.values()]


@contextmanager
def eval_mode(trainer: Trainer, strength: float = 1.0) -> Iterator[None]:
    """The weights that are saved (EMA weights where there are), no dropout, at `strength` inside; training as before after it."""
    with trainer.weights_lock:
        trainer.live_weights = {
            name: p.detach().clone() for name, p in trainer.parameters.items() if trainer.ema_weights
        }
        trainer.adapters.load(trainer.ema_weights)
    try:
        with at_strength(trainer, strength):
            yield
    finally:
        with trainer.weights_lock:
            trainer.adapters.load(trainer.live_weights)
            trainer.live_weights = {}


@contextmanager
def at_strength(trainer: Trainer, strength: float) -> Iterator[None]:
    """The adapters at `strength` and no dropout inside; training as before after it."""
    modes = [module.training for module in trainer.modules]
    for module in trainer.modules:
        module.eval()
    trainer.adapters.set_strength(strength)
    try:
        yield
    finally:
        trainer.adapters.set_strength(1.0)
        for module, mode in zip(trainer.modules, modes, strict=True):
            module.train(mode)
