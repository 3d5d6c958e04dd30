"""What training promises: only adapters move, randomness is by counter, a state brings back the same future."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sdlora import config
from sdlora.adapters.inject import Adapters
from sdlora.core.errors import BadInput, BaseUnusable, Diverged
from sdlora.core.events import Event, Judged, Saved, Started, Stepped, Warned
from sdlora.core.seeding import key
from sdlora.data import import_pictures
from sdlora.data.holdout import split
from sdlora.families.base_model import Base
from sdlora.families.objective import DiffusionObjective
from sdlora.models.bases import resolve_base
from sdlora.models.fingerprint import fingerprint
from sdlora.train import resume
from sdlora.train import run as run_module
from sdlora.train.batches import BatchSampler, sample_losses
from sdlora.train.evaluate import STRENGTHS, Evaluation, best_step, recommended_strength
from sdlora.train.latents import CaptionedImage
from sdlora.train.loop import schedule, train
from sdlora.train.rng import draw, noise_level
from sdlora.train.run import Control, Result, run
from sdlora.train.setup import Folders, Request
from sdlora.train.trainer import Trainer
from tests.conftest import draw_pictures
from tests.families import ready

FAST = {
    "train.steps": 6,
    "train.batch_size": 2,
    "train.unet_lr": 1e-2,
    "train.precision": "fp32",
    "train.state_every": 2,
    "lora.rank": 4,
    "sample.steps": 2,
    "data.caption_dropout": 0.2,
}


class Trained:
    """A run in this process, with everything it said."""

    def __init__(self, root: Path, base: Path, stop_at: int | None = None, **changes: Any):
        pictures = root / "pictures"
        if not pictures.exists():
            draw_pictures(pictures, 9)
        dataset = import_pictures([pictures], root / "datasets")
        ref = resolve_base(str(base))
        settings = config.from_values({**FAST, **changes})
        self.request = Request(
            name="disc",
            created=1_700_000_000.0,
            base=ref,
            base_fingerprint=fingerprint(base),
            settings=settings,
            pictures=[CaptionedImage(dataset.path(i), i.sha256, i.width, i.height, i.caption) for i in dataset.items],
            versions={"torch": torch.__version__},
        )
        self.folders = Folders(root, root / "state", root / "checkpoints", root / "samples", root / "cache")
        self.events: list[Event] = []
        self.stop_at = stop_at

    def __call__(self) -> Result:
        control = Control(self._should_stop, keep=lambda: True, on_ready=lambda save: None)
        return run(self.request, self.folders, self.events.append, control)

    def _should_stop(self) -> bool:
        return self.stop_at is not None and len(self.of(Stepped)) >= self.stop_at

    def of(self, kind: type) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]


def weights(module: torch.nn.Module) -> dict[str, Tensor]:
    return {
        name.replace(".base_layer", ""): p.detach().clone()
        for name, p in module.named_parameters()
        if "lora_" not in name
    }


def modules(base: Base) -> dict[str, torch.nn.Module]:
    return {**base.parts, "vae": base.vae}


@pytest.mark.parametrize("text_encoder_lr", [0.0, 1e-2])
def test_only_adapters_change(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text_encoder_lr: float
) -> None:
    seen = {}
    prepare = run_module.prepare

    def remember(*args: Any) -> Any:
        run = prepare(*args)
        seen["base"] = run.trainer.base
        seen["adapters"] = run.trainer.adapters
        seen["before"] = {part: weights(module) for part, module in modules(run.trainer.base).items()}
        seen["first"] = {name: p.detach().clone() for name, p in run.trainer.adapters.named_parameters().items()}
        return run

    monkeypatch.setattr(run_module, "prepare", remember)
    Trained(tmp_path, tiny_base, **{"train.text_encoder_lr": text_encoder_lr})()
    for part, before in seen["before"].items():
        after = weights(modules(seen["base"])[part])
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before), part
    moved = {name for name, p in seen["adapters"].named_parameters().items() if not torch.equal(p, seen["first"][name])}
    assert moved == set(seen["first"])
    assert any(name.startswith("text_encoder.") for name in moved) == (text_encoder_lr > 0)


def test_a_run_tells_what_it_does(tiny_base: Path, tmp_path: Path) -> None:
    trained = Trained(tmp_path, tiny_base)
    result = trained()
    (started,) = trained.of(Started)
    assert (started.pictures, started.held_out, started.steps) == (8, 1, 6)
    assert 0 < started.trained_parameters < started.full_parameters
    assert [e.step for e in trained.of(Stepped)] == [1, 2, 3, 4, 5, 6]
    assert [e.step for e in trained.of(Saved)] == [e.step for e in trained.of(Judged)] == [1, 2, 3, 4, 5, 6]
    assert result.finished
    assert result.file is not None
    assert result.file.name == f"step-{result.best_step:06d}.safetensors"
    strengths = sorted({p.stem[-3:] for p in (tmp_path / "samples").glob("*.png")})
    assert strengths == ["000", "050", "100"]


@pytest.mark.parametrize(
    "changes",
    [
        {"lora.dropout": 0.3, "train.text_encoder_lr": 1e-3, "train.gradient_checkpointing": True},
        {
            "train.gradient_accumulation": 2,
            "lora.targets": "attention",
            "train.schedule": "linear",
            "data.recolour": 0.7,
            "lora.dropout": 0.2,
        },
        {"lora.targets": "attention+ff+conv", "lora.blocks": "up_blocks.*", "lora.dropout": 0.1},
        {"lora.kind": "rslora", "train.text_encoder_lr": 1e-3, "lora.text_encoder_rank": 2},
        {"lora.kind": "dora", "train.text_encoder_lr": 1e-3, "train.lora_plus": 4.0},
        {"lora.kind": "loha", "lora.targets": "attention+ff+conv"},
        {"lora.kind": "lokr", "lora.targets": "attention+ff+conv", "data.shuffle": True, "train.noise_offset": 0.1},
        {"train.optimizer": "adafactor", "train.ema": 0.9},
        {"train.optimizer": "prodigy", "train.unet_lr": 1.0},
        {"train.optimizer": "adamw8bit"},
    ],
)
def test_a_run_that_goes_on_from_its_state_ends_in_the_same_bytes(
    tiny_base: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    package = {"prodigy": "prodigyopt", "adamw8bit": "bitsandbytes"}.get(changes.get("train.optimizer", ""))
    if package:
        pytest.importorskip(package)
    changes = {"train.save_every": 2, "train.sample_every": 3} | changes
    whole = Trained(tmp_path / "whole", tiny_base, **changes)()
    broken = Trained(tmp_path / "broken", tiny_base, stop_at=3, **changes)
    assert not broken().finished
    shared = tmp_path / "broken" / "state"
    assert [p.name for p in sorted(shared.iterdir())] == ["step-000002", "step-000003"]
    # as after a kill: what came after the state of step 2 never happened
    for gone in (shared / "step-000003").iterdir():
        gone.unlink()
    (shared / "step-000003").rmdir()
    resumed = Trained(tmp_path / "broken", tiny_base, **changes)
    result = resumed()
    assert resumed.of(Started)[0].step == 2
    assert (result.sha256, result.best_step, result.recommended_strength) == (
        whole.sha256,
        whole.best_step,
        whole.recommended_strength,
    )


def test_a_stopped_run_leaves_a_usable_file(tiny_base: Path, tmp_path: Path) -> None:
    result = Trained(tmp_path, tiny_base, stop_at=3)()
    assert (result.finished, result.step) == (False, 3)
    assert result.file is not None
    assert result.file.name == "step-000003.safetensors"


def test_divergence_stops_with_advice(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sdlora.train.batches.sample_losses", lambda *_: torch.full((2,), float("nan"), requires_grad=True)
    )
    trained = Trained(tmp_path, tiny_base)
    with pytest.raises(Diverged, match="learning rate"):
        trained()
    assert not trained.of(Saved) or trained.of(Saved)[-1].step < 3


def test_fp16_gives_up_after_three_losses_that_are_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is skipped leaves the gradient scaler ready for the next one, at the same scale."""
    run = ready(
        "sd1", tmp_path, tmp_path, **{"train.steps": 5, "train.text_encoder_lr": 0.0, "lora.targets": "attention"}
    )
    trainer = run.trainer
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)

    def broken(trainer: Trainer, samples: Any) -> Tensor:
        return sample_losses(trainer, samples) * (float("nan") if trainer.step >= 1 else 1.0)

    monkeypatch.setattr("sdlora.train.batches.sample_losses", broken)
    with pytest.raises(Diverged, match="at step 4"):
        train(trainer, run.emit, lambda: False, lambda step: None)
    assert trainer.skipped == [1, 2, 3]
    assert trainer.scaler.get_scale() == 1024.0
    assert all(torch.isfinite(p).all() for p in trainer.parameters.values())


def test_a_step_does_not_walk_the_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hundreds of layers, while the device waits: 7 ms of each SDXL step."""
    run = ready(
        "sd1", tmp_path, tmp_path, **{"train.ema": 0.9, "train.text_encoder_lr": 0.0, "lora.targets": "attention"}
    )

    def walked(self: Adapters) -> Any:
        raise AssertionError("the adapters' parameters were looked up")

    monkeypatch.setattr(Adapters, "named_parameters", walked)
    train(run.trainer, run.emit, lambda: False, lambda step: None)
    assert run.trainer.step == 2


def test_a_gpu_that_torch_cannot_use_is_pointed_out(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "gpu_count", lambda: 1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def too_old() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).")

    monkeypatch.setattr(torch.cuda, "init", too_old)
    trained = Trained(tmp_path, tiny_base, stop_at=0)
    trained()
    (warned,) = trained.of(Warned)
    assert warned.code == "device"
    assert "found version 11040" in warned.en
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    hidden = Trained(tmp_path / "hidden", tiny_base, stop_at=0)
    hidden()
    assert not hidden.of(Warned)


def test_a_changed_base_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    trained = Trained(tmp_path, tiny_base)
    trained.request = Request(**{**vars(trained.request), "base_fingerprint": "0" * 64})
    with pytest.raises(BaseUnusable, match="has changed"):
        trained()


def test_randomness_is_a_function_of_its_numbers() -> None:
    assert key(0, "sample", 1, 2) == key(0, "sample", 1, 2)
    assert len({key(s, stream, n) for s in (0, 1) for stream in ("sample", "perm") for n in (0, 1)}) == 8  # type: ignore[arg-type]
    a, b = draw(5, (4, 2, 2), 1000, seed=3), draw(5, (4, 2, 2), 1000, seed=3)
    assert a.timestep == b.timestep
    assert torch.equal(a.noise, b.noise)


@pytest.mark.parametrize("first", [0, 1000, 10**11])
def test_every_batch_hears_noise_of_all_strengths(first: int) -> None:
    batch = sorted(noise_level(first + k, seed=3) for k in range(8))
    assert all(0 < later - level < 0.147 for level, later in pairwise([*batch, batch[0] + 1]))
    assert all(noise_level(first, seed) != noise_level(first, seed=3) for seed in (0, 1, 2))


@pytest.mark.parametrize(("lowest", "noise", "strength"), [(0.65, 0.001, 0.65), (0.65, 1.0, 1.0), (1.02, 0.001, 1.0)])
def test_a_strength_other_than_1_is_recommended_where_it_is_better_beyond_noise(
    lowest: float, noise: float, strength: float
) -> None:
    dice = torch.Generator().manual_seed(0)
    apart = {s: noise * torch.randn(16, generator=dice) for s in STRENGTHS}
    losses = {s: (s - lowest) ** 2 + d - d.mean() for s, d in apart.items()}
    assert recommended_strength(losses) == strength


def test_every_epoch_shows_every_picture_once_in_batches_of_one_shape() -> None:
    shapes = [(4, 8, 8), (4, 4, 16), (4, 8, 8), (4, 8, 8), (4, 16, 4), (4, 8, 8), (4, 8, 8)]
    order = BatchSampler(shapes, batch_size=2, seed=1)
    assert order.batches_per_epoch == 5
    epochs = [[order.batch(5 * epoch + k) for k in range(5)] for epoch in range(4)]
    for batches in epochs:
        assert sorted(i for batch in batches for i in batch) == list(range(7))
        assert all(len({shapes[i] for i in batch}) == 1 for batch in batches)
    assert epochs[0] != epochs[1]
    assert BatchSampler(shapes, 2, 1).batch(17) == epochs[3][2], "any batch can be reached at once"


def test_schedule_is_a_function_of_the_step() -> None:
    t = config.from_values({"train.steps": 100, "train.warmup_steps": 10, "train.schedule": "cosine"}).train
    assert schedule(0, t) == 0.1
    assert schedule(9, t) == schedule(10, t) == 1.0
    assert 0 < schedule(99, t) < 0.01
    constant = config.from_values({"train.schedule": "constant"}).train
    assert {schedule(k, constant) for k in (0, 500, 999)} == {1.0}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_targets_and_weights_follow_the_papers(prediction: str) -> None:
    scheduler = {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
    }
    objective = DiffusionObjective.of(scheduler, prediction)
    t = torch.tensor([10, 500, 990])
    x_0, noise = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    a = objective.alphas_cumprod[t].view(-1, 1, 1, 1)
    x_t, target = objective.add_noise(x_0, noise, t), objective.target(x_0, noise, t)
    # the prediction must give x_0 back: x_0 = (x_t - sqrt(1-a) eps) / sqrt(a), or sqrt(a) x_t - sqrt(1-a) v
    back = (
        (x_t - (1 - a).sqrt() * target) / a.sqrt()
        if prediction == "epsilon"
        else a.sqrt() * x_t - (1 - a).sqrt() * target
    )
    torch.testing.assert_close(back, x_0, atol=1e-3, rtol=1e-3)
    # in units of x_0's error, which is eps's divided by the SNR, every weight is at most gamma
    snr = (a / (1 - a)).flatten()
    in_x0 = objective.weight(t, 5.0) * (snr if prediction == "epsilon" else snr + 1)
    torch.testing.assert_close(in_x0, snr.clamp(max=5.0))
    assert torch.equal(objective.weight(t, 0.0), torch.ones(3))
    # high noise adds the error in x_0 itself, where the SNR leaves more than an 8th of it
    more = objective.weight(t, 5.0, 8.0) * (snr if prediction == "epsilon" else snr + 1)
    torch.testing.assert_close(more - in_x0, (8 * snr).clamp(max=1))


def test_the_best_step_needs_more_than_noise() -> None:
    judged = {10: Evaluation(0.9, 1.0, 0.01), 20: Evaluation(0.8, 1.0, 0.01), 30: Evaluation(0.85, 1.0, 0.01)}
    assert best_step(judged) == 20
    assert best_step({**judged, 30: Evaluation(0.805, 1.0, 0.01)}) == 30


def test_small_sets_hold_nothing_out() -> None:
    assert split(7, 0.1, seed=0) == (list(range(7)), [])
    learn, held = split(24, 0.1, seed=0)
    assert (len(learn), len(held)) == (22, 2)
    assert sorted(learn + held) == list(range(24))


class TestState:
    def saved(self, folder: Path, *steps: int) -> None:
        for step in steps:
            resume.save(folder, resume.State(step, {"a": torch.full((3,), float(step))}, {"skipped": []}))

    def test_newest_valid_one_wins_and_two_are_kept(self, tmp_path: Path) -> None:
        self.saved(tmp_path, 5, 10, 15)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000010", "step-000015"]
        newest = tmp_path / "step-000015" / "tensors.safetensors"
        newest.write_bytes(newest.read_bytes()[:-1] + b"\x01")
        found = resume.newest(tmp_path)
        assert found is not None
        assert found.step == 10
        assert found.tensors["a"].tolist() == [10.0] * 3

    def test_all_damaged_is_said(self, tmp_path: Path) -> None:
        self.saved(tmp_path, 5, 10)
        for file in tmp_path.glob("*/manifest.json"):
            file.write_text("{}")
        with pytest.raises(BadInput, match="damaged"):
            resume.newest(tmp_path)

    def test_none_is_none_and_leftovers_go(self, tmp_path: Path) -> None:
        (tmp_path / ".step-000003.tmp").mkdir()
        assert resume.newest(tmp_path) is None
        assert not list(tmp_path.iterdir())
