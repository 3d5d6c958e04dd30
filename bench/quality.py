"""`python -m bench.quality`: how long until a recipe is as good as the plain one is after all of its steps?

Plain is AdamW at 1e-4, a constant rate, every noise level alike. Goodness is the plain held-out loss (every noise level alike, a
quarter of the pictures, the same noise for all), so a recipe cannot win by weighing what it is measured by. Two styles on the
bundled base: its own picture set, and its own drawings in two inks. Plain runs 400 steps, every other recipe the first 100 of its
400; the lowest loss within those says which of two that are both quick learns more. Seconds are those of the steps. Several runs
are made side by side, one thread each.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from PIL import Image, ImageOps

from sdlora import config
from sdlora.core.events import Event, Stepped
from sdlora.data import import_pictures
from sdlora.models.bases import EXAMPLE, resolve_base
from sdlora.train import batches
from sdlora.train.latents import CaptionedImage
from sdlora.train.loop import train
from sdlora.train.rng import Draw, draw, key
from sdlora.train.setup import Folders, Request, Run, encode, load, prepare
from sdlora.train.trainer import Trainer

PLAIN: dict[str, Any] = {
    "lora.rank": 16,
    "lora.alpha": 16.0,
    "lora.targets": "attention+ff",
    "data.held_out": 0.25,
    "data.caption_dropout": 0.0,
    "train.steps": 400,
    "train.batch_size": 4,
    "train.unet_lr": 1e-4,
    "train.schedule": "constant",
    "train.min_snr_gamma": 0.0,
    "train.weight_decay": 0.0,
    "train.precision": "fp32",
}
# Steps of a recipe, and between two looks at the held-out pictures. Plain is looked at when it is done.
LIMIT, EVERY = 100, 10
INKS: dict[str, Any] = {"black": "#1d3557", "mid": "#e63946", "white": "#fff1e6"}
Twist = Callable[[Run], Any]  # a context manager around the run


@dataclass(frozen=True)
class Recipe:
    """What differs from the plain one: settings, and what no setting says."""

    values: dict[str, Any] = field(default_factory=dict)
    twist: Twist | None = None


# ---- what no setting says


def timesteps(bend: float) -> Twist:
    """t = T u^bend for u spread evenly: above 1 more steps see little noise, below 1 more see much."""

    @contextmanager
    def twist(run: Run) -> Iterator[None]:
        def bent(index: int, shape: tuple[int, ...], timesteps: int, seed: int, offset: float = 0.0) -> Draw:
            d = draw(index, shape, timesteps, seed, offset)
            return replace(d, timestep=int((d.timestep / timesteps) ** bend * timesteps))

        with mock.patch.object(batches, "draw", bent):
            yield

    return twist


def _layers(run: Run) -> Iterator[tuple[Any, torch.nn.Parameter, torch.nn.Parameter, float]]:
    """(base layer, A, B, alpha / rank) of every adapter."""
    for layers in run.trainer.adapters.parts.values():
        for layer in layers.values():
            name = next(iter(layer.lora_A))  # type: ignore[attr-defined, unused-ignore]
            found: Any = layer
            yield found.get_base_layer(), found.lora_A[name].weight, found.lora_B[name].weight, found.scaling[name]


@contextmanager
def orthogonal(run: Run) -> Iterator[None]:
    """Rows of A at right angles, as long as PEFT's are on average; B = 0."""
    torch.manual_seed(key(run.trainer.settings.train.seed, "init"))
    for _, a, _, _ in _layers(run):
        length = a.norm() / a.shape[0] ** 0.5
        torch.nn.init.orthogonal_(a)
        a.data.mul_(length)
    yield


@torch.no_grad()
def _carved(run: Run, factors: Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Adapters begin as a part of the weight, which the base layer then lacks."""
    for base, a, b, scale in _layers(run):
        weight = base.weight.data
        b0, a0 = factors(weight.float(), a.shape[0])
        a.copy_(a0)
        b.copy_(b0 / scale)
        weight.sub_((b0 @ a0).to(weight.dtype))


@contextmanager
def pissa(run: Run) -> Iterator[None]:
    """The leading singular directions are what is trained (arXiv 2404.02948)."""

    def factors(weight: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        root = s[:rank].sqrt()
        return u[:, :rank] * root, root[:, None] * v[:rank]

    _carved(run, factors)
    yield


@contextmanager
def olora(run: Run) -> Iterator[None]:
    """The first columns of Q and rows of R are what is trained (arXiv 2406.01775)."""

    def factors(weight: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        q, r = torch.linalg.qr(weight)
        return q[:, :rank], r[:rank]

    _carved(run, factors)
    yield


@contextmanager
def by_timestep(run: Run) -> Iterator[None]:
    """T-LoRA (arXiv 2507.05964): while training, a sample at t uses the first r/2 + r/2 (1 - t / T) of r directions."""
    trainer, now = run.trainer, torch.ones(1)

    def masked(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return output
        rank = output.shape[-1]
        kept = (rank / 2 * (2 - now)).ceil().view(-1, *[1] * (output.dim() - 1))
        return output * (torch.arange(rank) < kept)

    def predict(t: Trainer, x_t: torch.Tensor, levels: torch.Tensor, samples: Any) -> torch.Tensor:
        nonlocal now
        now = levels / trainer.objective.timesteps
        return plain(t, x_t, levels, samples)

    plain = batches.predict
    hooks = [
        module.register_forward_hook(masked)
        for layers in trainer.adapters.parts.values()
        for layer in layers.values()
        for module in layer.lora_A.values()  # type: ignore[attr-defined, unused-ignore]
    ]
    with mock.patch.object(batches, "predict", predict):
        yield
    for hook in hooks:
        hook.remove()


FAST = {"train.unet_lr": 1e-3}
RECIPES = {
    "plain": Recipe(),
    "rate 3e-4": Recipe({"train.unet_lr": 3e-4}),
    "rate 1e-3": Recipe(FAST),
    "rate 2e-3": Recipe({"train.unet_lr": 2e-3}),
    "rate 1e-3, LoRA+ 4": Recipe({**FAST, "train.lora_plus": 4.0}),
    "rate 1e-3, LoRA+ 16": Recipe({**FAST, "train.lora_plus": 16.0}),
    "rate 1e-3, min-SNR 5": Recipe({**FAST, "train.min_snr_gamma": 5.0}),
    "rate 1e-3, min-SNR 1": Recipe({**FAST, "train.min_snr_gamma": 1.0}),
    "rate 1e-3, EMA 0.98": Recipe({**FAST, "train.ema": 0.98}),
    "rate 1e-3, cosine over 100": Recipe({**FAST, "train.schedule": "cosine", "train.steps": 100}),
    "rate 1e-3, rank 4": Recipe({**FAST, "lora.rank": 4, "lora.alpha": 4.0}),
    "rate 1e-3, rank 64": Recipe({**FAST, "lora.rank": 64, "lora.alpha": 64.0}),
    "rate 1e-3, convolutions too": Recipe({**FAST, "lora.targets": "attention+ff+conv"}),
    "rate 1e-3, attention only": Recipe({**FAST, "lora.targets": "attention"}),
    "rate 1e-3, orthogonal A": Recipe(FAST, orthogonal),
    "rate 1e-3, PiSSA": Recipe(FAST, pissa),
    "rate 1e-3, OLoRA": Recipe(FAST, olora),
    "rate 1e-3, t = T u^1.5": Recipe(FAST, timesteps(1.5)),
    "rate 1e-3, t = T u^0.7": Recipe(FAST, timesteps(0.7)),
    "rate 1e-3, rank by t": Recipe(FAST, by_timestep),
}


# ---- one run


@dataclass(frozen=True)
class Task:
    recipe: str
    style: str
    seed: int


@dataclass(frozen=True)
class Look:
    """At the held-out pictures, after so many steps and their seconds."""

    step: int
    seconds: float
    loss: float


@dataclass(frozen=True)
class Result:
    task: Task
    base_loss: float
    looks: list[Look]

    def reached(self, goal: float) -> Look | None:
        return next((look for look in self.looks if look.loss <= goal), None)


def two_inks(folder: Path) -> Path:
    """The subjects of the bundled set as the base draws them, printed in two inks on cream."""
    from base.pictures import BUNDLED, SUBJECTS
    from base.sampling import pipeline, sample

    folder.mkdir()
    captions = [f"{name.replace('-', ' ')}, two ink print" for name in SUBJECTS]
    drawn = sample(
        pipeline(BUNDLED / "emoji"), [f"{name.replace('-', ' ')}, twemoji style" for name in SUBJECTS], seed=5
    )
    for name, caption, picture in zip(SUBJECTS, captions, drawn, strict=True):
        ImageOps.colorize(Image.fromarray(picture).convert("L"), **INKS).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(caption)
    return folder


def ready(root: Path, task: Task, values: dict[str, Any]) -> Run:
    dataset = import_pictures([EXAMPLE if task.style == "blueprint" else root / task.style], root / "datasets")
    pictures = [CaptionedImage(dataset.path(i), i.sha256, i.width, i.height, i.caption) for i in dataset.items]
    settings = config.from_values({**PLAIN, **values, "train.seed": task.seed})
    request = Request("quality", 0.0, resolve_base("emoji"), "", settings, pictures, {})
    folders = Folders(root, root / "state", root / "checkpoints", root / "samples", root / "cache")
    base = load(request)
    return prepare(request, base, encode(request, base, folders), folders, lambda event: None)


def held_out(run: Run) -> float:
    """Mean over noise levels, unweighted whatever the recipe weighs."""
    trainer, own = run.trainer, run.trainer.settings
    assert run.evaluator is not None
    trainer.settings = own.model_copy(update={"train": own.train.model_copy(update={"min_snr_gamma": 0.0})})
    try:
        return run.evaluator.losses(trainer).mean().item()
    finally:
        trainer.settings = own


def perform(given: tuple[Path, Task]) -> Result:
    root, task = given
    torch.set_num_threads(1)
    recipe = RECIPES[task.recipe]
    run = ready(root, task, recipe.values)
    base_loss, seconds, looks = held_out(run), list[float](), list[Look]()  # B = 0: the base's own loss

    def note(event: Event) -> None:
        if isinstance(event, Stepped):
            seconds.append(event.seconds)

    def look(step: int) -> None:
        if step == run.steps if task.recipe == "plain" else step % EVERY == 0:
            looks.append(Look(step, sum(seconds), held_out(run)))

    def enough() -> bool:
        return task.recipe != "plain" and len(seconds) >= LIMIT

    with recipe.twist(run) if recipe.twist else contextlib.nullcontext():
        train(run.trainer, note, enough, look)
    return Result(task, base_loss, looks)


# ---- all of them


def row(name: str, results: list[Result], plain: dict[tuple[str, int], Result]) -> str:
    """Markdown."""
    pairs = [(r, plain[r.task.style, r.task.seed].looks[-1]) for r in results]
    there = [(look, goal) for r, goal in pairs if (look := r.reached(goal.loss))]
    shares = sorted(100 * look.seconds / goal.seconds for look, goal in there)
    steps = f"{statistics.median(look.step for look, _ in there):g}" if there else ""
    time = f"{statistics.median(shares):.0f} % ({shares[0]:.0f} to {shares[-1]:.0f})" if there else "never"
    lowest = [100 * min(look.loss for look in r.looks) / r.base_loss for r in results]
    spread = f"{statistics.mean(lowest):.1f} % ({min(lowest):.1f} to {max(lowest):.1f})"
    return f"| {name} | {len(there)} of {len(results)} | {steps} | {time} | {spread} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), default=list(RECIPES), help="recipes beside plain")
    parser.add_argument("--side-by-side", type=int, default=2)
    options = parser.parse_args()
    cases = list(itertools.product(("blueprint", "two-inks"), range(options.seeds)))
    print(
        "| recipe | as good as plain | after steps | share of plain's time (least to most) | lowest loss, of the base's |"
    )
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        two_inks(root / "two-inks")
        with multiprocessing.get_context("spawn").Pool(options.side_by_side, maxtasksperchild=10) as pool:
            plain: dict[tuple[str, int], Result] = {}
            for name in ["plain", *(n for n in options.only if n != "plain")]:
                results = pool.map(perform, [(root, Task(name, *case)) for case in cases], chunksize=1)
                plain = plain or {(r.task.style, r.task.seed): r for r in results}
                print(row(name, results, plain), flush=True)


if __name__ == "__main__":
    main()
