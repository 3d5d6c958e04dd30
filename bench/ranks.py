"""`python -m bench.ranks`: what does low rank give up? LoRAs of rank 1 to 64 beside a full fine-tune of the same layers.

On the bundled base and pictures, a quarter of them held out; the same noise, order and steps for all. A full fine-tune takes a
smaller rate, so it is tried at three.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from sdlora import config
from sdlora.adapters.spec import AdapterConfig, pattern
from sdlora.core.events import Event, Stepped
from sdlora.data import import_pictures
from sdlora.families.spec import Part
from sdlora.models.bases import EXAMPLE, resolve_base
from sdlora.train.evaluate import Evaluation
from sdlora.train.latents import CaptionedImage
from sdlora.train.loop import train
from sdlora.train.setup import Folders, Request, encode, load, prepare

RANKS, RATE = (1, 2, 4, 8, 16, 32, 64), 1e-3
FULL_RATES = (3e-5, 1e-4, 3e-4)
FIXED: dict[str, Any] = {
    "train.batch_size": 8,
    "train.schedule": "constant",
    "train.warmup_steps": 10,
    "train.precision": "fp32",
    "train.weight_decay": 0.0,
    "data.held_out": 0.25,
    "lora.targets": "attention+ff",
}


class Whole:
    """The weights of the same layers themselves, with what `Trainer` and `Judge` ask of adapters."""

    def __init__(self, models: dict[Part, nn.Module], config: AdapterConfig, seed: int):
        self.config = config
        self.parts = {part: self._layers(part, model) for part, model in models.items()}
        self.start = {name: p.detach().clone() for name, p in self.named_parameters().items()}
        self.trained: dict[str, Tensor] = {}  # put aside while another strength is shown
        for p in self.named_parameters().values():
            p.requires_grad_(True)

    def _layers(self, part: Part, model: nn.Module) -> dict[str, nn.Module]:
        wanted = re.compile(pattern(part, self.config.targets))
        return {path: layer for path, layer in model.named_modules() if wanted.fullmatch(path)}

    def named_parameters(self) -> dict[str, nn.Parameter]:
        found = {(part, path): layer.weight for part, layers in self.parts.items() for path, layer in layers.items()}
        return {f"{part}.{path}": weight for (part, path), weight in found.items() if isinstance(weight, nn.Parameter)}

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.named_parameters().values())

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        for name, p in self.named_parameters().items():
            if name in tensors:
                p.copy_(tensors[name])

    @torch.no_grad()
    def set_strength(self, strength: float) -> None:
        self.load(self.trained)
        self.trained = {} if strength == 1 else {n: p.detach().clone() for n, p in self.named_parameters().items()}
        for name, trained in self.trained.items():
            self.named_parameters()[name].copy_(self.start[name].lerp(trained, strength))


def measure(root: Path, rank: int, rate: float, steps: int) -> tuple[int, dict[int, Evaluation], float]:
    """(trained parameters, judgement by step, mean loss of the last 20 steps). Rank 0 is the full fine-tune."""
    values = {**FIXED, "train.steps": steps, "train.unet_lr": rate}
    settings = config.from_values({**values, "lora.rank": rank or 1, "lora.alpha": float(rank or 1)})
    dataset, base_ref = import_pictures([EXAMPLE], root / "datasets"), resolve_base("emoji")
    pictures = [CaptionedImage(dataset.path(i), i.sha256, i.width, i.height, i.caption) for i in dataset.items]
    request = Request("ranks", 0.0, base_ref, "", settings, pictures, {})
    folders = Folders(root, root / "state", root / "checkpoints", root / "samples", root / "cache")
    told: list[Event] = []
    base = load(request)
    training_set = encode(request, base, folders)
    if rank:
        run = prepare(request, base, training_set, folders, told.append)
    else:
        with mock.patch("sdlora.train.setup.inject", Whole):
            run = prepare(request, base, training_set, folders, told.append)
    evaluator, evaluations = run.evaluator, dict[int, Evaluation]()
    assert evaluator is not None

    def look(step: int) -> None:
        if step % 20 == 0:
            evaluations[step] = evaluator.evaluate(run.trainer)

    train(run.trainer, told.append, lambda: False, look)
    last = [event.loss for event in told if isinstance(event, Stepped)][-20:]
    return run.trainer.adapters.parameter_count(), evaluations, statistics.mean(last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=160)
    options = parser.parse_args()
    print(
        "| trained | parameters | rate | held-out loss, lowest (of the base) | at step | at the end | loss on what it learns |"
    )
    print("|---|---|---|---|---|---|---|")
    candidates = [(rank, RATE) for rank in RANKS] + [(0, rate) for rate in FULL_RATES]
    with tempfile.TemporaryDirectory() as folder:
        for rank, rate in candidates:
            count, judged, loss = measure(Path(folder), rank, rate, options.steps)
            best = min(judged, key=lambda step: judged[step].loss)
            shares = [100 * judged[step].loss / judged[step].base_loss for step in (best, max(judged))]
            name = f"rank {rank}" if rank else "the weights"
            row = f"{count:,} | {rate:g} | {shares[0]:.1f} % | {best} | {shares[1]:.1f} % | {loss:.4f}"
            print(f"| {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()
