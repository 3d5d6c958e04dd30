"""The one training loop of the recipe: warm up, stay, decay (WSD), average, and be killable at any moment.

Two states lie in a stage's folder. `stable.safetensors` is before the decay: a later sitting goes on from it
(it is how more hours are added). `final.safetensors` is what the decay made of it: the product.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from base.muon import MuonAdam
from base.state import load_state, save_state

LONGEST_STEP = 10.0  # seconds; what goes beyond was a pause, and a pause is not part of the plan


@dataclass(frozen=True)
class Plan:
    """How long and how fast. Rates are Muon's; seconds are of the wall clock, pauses left out."""

    minutes: float
    lr: float
    decay_share: float = 0.3
    warm_up: int = 100
    save_every: float = 120.0
    average: float = 0.995


class Run:
    """A model, its optimizer and its moving average, with one counter: the step."""

    def __init__(self, model: nn.Module, optimizer: MuonAdam, folder: Path, average: float):
        self.model, self.optimizer, self.folder, self.keep = model, optimizer, folder, average
        self.step, self.seconds, self.decay = 0, 0.0, 0.0
        self.average = {n: p.detach().clone() for n, p in model.named_parameters()}

    def save(self) -> None:
        tensors: dict[str, Tensor] = {f"model.{n}": p for n, p in self.model.named_parameters()}
        tensors |= {f"average.{n}": p for n, p in self.average.items()} | self.optimizer.state()
        facts = {"step": self.step, "seconds": self.seconds, "decay": self.decay}
        save_state(self.folder / ("final.safetensors" if self.decay else "stable.safetensors"), tensors, facts)

    def load(self, name: str) -> bool:
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            return False
        tensors, facts = load_state(path)
        with torch.no_grad():
            for n, p in self.model.named_parameters():
                p.copy_(tensors[f"model.{n}"])
                self.average[n].copy_(tensors[f"average.{n}"])
        self.step, self.seconds, self.decay = facts["step"], facts["seconds"], facts["decay"]
        self.optimizer.load(tensors, self.step)
        return True

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average; early on it follows faster, so that it never remembers the random start."""
        keep = min(self.keep, (1 + self.step) / (10 + self.step))
        named = dict(self.model.named_parameters())
        torch._foreach_lerp_(list(self.average.values()), [named[n] for n in self.average], 1 - keep)


def run_plan(run: Run, plan: Plan, loss_at: Callable[[int], Tensor], say: Callable[[str], None]) -> None:
    """Train for `plan.minutes`, the last `decay_share` of them in decay. `loss_at(step)` draws its own batch."""
    passed, saved = 0.0, time.monotonic()
    stay = plan.minutes * 60 * (1 - plan.decay_share)
    decay_for = max(plan.minutes * 60 * plan.decay_share, 1e-9)
    before, smoothed, since = run.seconds, 0.0, time.monotonic()
    while passed < plan.minutes * 60:
        begun = time.monotonic()
        if passed >= stay and not run.decay:
            run.save()
        run.decay = max(0.0, (passed - stay) / decay_for) if passed >= stay else 0.0
        rate = plan.lr * min(1.0, (run.step + 1) / plan.warm_up) * (1 - run.decay)
        loss = loss_at(run.step)
        loss.backward()
        if torch.isfinite(loss):
            run.optimizer.step(rate)
        run.step += 1
        run.follow()
        passed += min(time.monotonic() - begun, LONGEST_STEP)
        run.seconds = before + passed
        smoothed = loss.item() if not smoothed else 0.98 * smoothed + 0.02 * loss.item()
        if run.step % 100 == 0:
            say(f"step {run.step}  loss {smoothed:.4f}  rate {rate:.5f}  {(time.monotonic() - since) / 100:.3f} s/step")
            since = time.monotonic()
        if time.monotonic() - saved > plan.save_every:
            run.save()
            saved = time.monotonic()
    run.save()
