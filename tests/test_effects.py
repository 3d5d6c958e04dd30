"""Each setting changes what is computed: a walk through `config.settings()` that fails where one has no test, or no effect."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from sdlora import config
from sdlora.config import values_of
from sdlora.config.inactive import contradictions
from sdlora.core.errors import BadInput, Unmoved
from sdlora.core.events import Sampled, Saved
from sdlora.data.captions import with_trigger
from sdlora.train import resume
from sdlora.train.batches import tag_orders
from sdlora.train.loop import train
from sdlora.train.rng import draw
from sdlora.train.setup import encode, load, prepare
from tests.conftest import draw_pictures
from tests.test_train import Trained
from tests.tiny import make_base

# setting -> (what must be set beside it, a value that is not the default): another value gives other weights after four steps.
TEXT = {"train.text_encoder_lr": 1e-2}
WEIGHTS: dict[str, tuple[dict[str, Any], Any]] = {
    "model.prediction": ({}, "v_prediction"),
    "data.trigger": ({}, "zz"),
    "data.flip": ({}, False),
    "data.buckets": ({}, False),
    "data.shuffle": ({}, True),
    "data.keep_tokens": ({"data.shuffle": True}, 3),
    "data.recolour": ({}, 1.0),
    "data.caption_dropout": ({}, 1.0),
    "data.held_out": ({}, 0.0),
    "lora.kind": ({}, "dora"),
    "lora.rank": ({}, 2),
    "lora.alpha": ({}, 2.0),
    "lora.targets": ({}, "attention"),
    "lora.blocks": ({}, "up_blocks"),
    "lora.text_encoder_rank": (TEXT, 2),
    "lora.dropout": ({}, 0.5),
    "train.steps": ({}, 8),  # the schedule falls over all steps
    "train.unet_lr": ({}, 2e-2),
    "train.text_encoder_lr": ({}, 1e-2),
    "train.batch_size": ({}, 3),
    "train.gradient_accumulation": ({}, 2),
    "train.resolution": ({}, 16),
    "train.schedule": ({}, "linear"),
    "train.warmup_steps": ({}, 3),
    "train.optimizer": ({}, "adafactor"),
    "train.lora_plus": ({}, 8.0),
    "train.noise_offset": ({}, 0.3),
    "train.min_snr_gamma": ({}, 0.05),
    "train.high_noise_weight": ({}, 8.0),
    "train.prior_weight": ({"data.trigger": "zz"}, 1.0),
    "data.class_prompt": ({"data.trigger": "zz", "train.prior_weight": 1.0}, "a thing"),
    "train.weight_decay": ({}, 0.9),
    "train.max_grad_norm": ({}, 1e-9),
    "train.ema": ({}, 0.5),
    "train.seed": ({}, 7),
}
FOUR = {"train.steps": 4, "lora.targets": "attention+ff", "data.caption_dropout": 0.0, "lora.rank": 4}


def pictures(root: Path) -> None:
    """Wide pictures with tags: what buckets and shuffling act on."""
    if not (root / "pictures").exists():
        draw_pictures(root / "pictures", 8)
        for k, file in enumerate(sorted((root / "pictures").glob("*.png"))):
            with Image.open(file) as picture:
                picture.resize((96, 64)).save(file)
            file.with_suffix(".txt").write_text(f"disc {k}, red, round, flat, small")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Callable[..., str]:
    """A fingerprint of what four steps train: every matrix that would be saved. Latents are cached between runs."""
    root, known = tmp_path_factory.mktemp("effects"), dict[str, str]()
    pictures(root)

    def trained(base: Path = tiny_base, **changes: Any) -> str:
        name = repr((base, sorted(changes.items())))
        if name not in known:
            known[name] = _trained(root, base, changes)
        return known[name]

    return trained


def _trained(root: Path, base_folder: Path, changes: dict[str, Any]) -> str:
    job = Trained(root, base_folder, **{**FOUR, **changes})
    trigger = job.request.settings.data.trigger
    shown = [replace(p, caption=with_trigger(p.caption, trigger)) for p in job.request.pictures]
    request = replace(job.request, pictures=shown)
    base = load(request)
    run = prepare(request, base, encode(request, base, job.folders), job.folders, job.events.append)
    train(run.trainer, job.events.append, lambda: run.trainer.step == 4, lambda step: None)
    saved = run.trainer.ema_weights or run.trainer.adapters.named_parameters()
    digest = hashlib.sha256()
    for key in sorted(saved):
        digest.update(key.encode() + saved[key].detach().numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("path", [s.path for s in config.settings() if s.path in WEIGHTS])
def test_other_settings_train_other_weights(weights: Callable[..., str], path: str) -> None:
    beside, value = WEIGHTS[path]
    assert value != {**FOUR, **beside}.get(path, next(s.default for s in config.settings() if s.path == path))
    assert weights(**beside) != weights(**{**beside, path: value})


def test_the_same_settings_train_the_same_weights(weights: Callable[..., str], tmp_path: Path, tiny_base: Path) -> None:
    pictures(tmp_path)
    assert weights() == _trained(tmp_path, tiny_base, {})


def another_base(tmp_path: Path, weights: Callable[..., str], whole: Trained) -> None:
    assert weights() != weights(make_base(tmp_path / "other", width=16))


def checkpointing(tmp_path: Path, weights: Callable[..., str], whole: Trained) -> None:
    """What it changes is memory: the same weights come out."""
    other = replace(whole.request, settings=changed(whole, {"train.gradient_checkpointing": True}))
    assert (load(whole.request).denoiser.is_gradient_checkpointing, load(other).denoiser.is_gradient_checkpointing) == (
        False,
        True,
    )


def precision(tmp_path: Path, weights: Callable[..., str], whole: Trained) -> None:
    assert load(whole.request).denoiser.dtype == torch.float32
    assert (
        load(replace(whole.request, settings=changed(whole, {"train.precision": "bf16"}))).denoiser.dtype
        == torch.bfloat16
    )


def saved(tmp_path: Path, weights: Callable[..., str], whole: Trained) -> None:
    assert [e.step for e in whole.of(Saved)] == [2, 4]


def sampled(tmp_path: Path, weights: Callable[..., str], whole: Trained) -> None:
    assert sorted({e.step for e in whole.of(Sampled)}) == [0, 3, 4]


def stated(tmp_path: Path, weights: Callable[..., str], whole: Trained) -> None:
    found = resume.newest(whole.folders.state)
    assert found is not None
    assert [p.name for p in sorted(whole.folders.state.iterdir())] == ["step-000003", "step-000004"]


def prompted(tmp_path: Path, weights: Callable[..., str], whole: Trained) -> None:
    assert {e.prompt for e in whole.of(Sampled)} == {"a blue disc"}


def undrawn(tmp_path: Path, weights: Callable[..., str], whole: Trained) -> None:
    pictures(tmp_path)
    quiet = {k: v for k, v in WHOLE.items() if k not in ("sample.prompts", "train.sample_every")}
    other = Trained(tmp_path, whole.request.base.path, **{**quiet, "sample.draw": False})  # type: ignore[arg-type]
    assert other().file
    assert not other.of(Sampled)
    assert not list(other.folders.samples.glob("*"))


def drawn_with(path: str, value: Any) -> Callable[[Path, Callable[..., str], Trained], None]:
    """The picture of step 0 is the base's: only how it is drawn differs."""

    def check(tmp_path: Path, weights: Callable[..., str], whole: Trained) -> None:
        pictures(tmp_path)
        other = Trained(tmp_path, whole.request.base.path, stop_at=0, **{**WHOLE, path: value})  # type: ignore[arg-type]
        other()
        (first,) = (e.file for e in other.of(Sampled))
        assert (whole.folders.root / first).read_bytes() != (tmp_path / first).read_bytes()

    return check


def number_format(tmp_path: Path, weights: Callable[..., str], whole: Trained) -> None:
    with safe_open(whole.folders.checkpoints / "step-000004.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118


def tags(tmp_path: Path, weights: Callable[..., str], whole: Trained) -> None:
    with safe_open(whole.folders.checkpoints / "step-000004.safetensors", "pt") as file:
        assert "ss_tag_frequency" not in file.metadata()


# One whole run shows all of these, each at a value that is not the default.
WHOLE = {
    **FOUR,
    "train.save_every": 2,
    "train.sample_every": 3,
    "train.state_every": 3,
    "sample.prompts": "a blue disc",
    "sample.steps": 2,
    "export.dtype": "bf16",
    "export.captions": False,
}
RUNS: dict[str, Callable[[Path, Callable[..., str], Trained], None]] = {
    "model.base": another_base,
    "train.gradient_checkpointing": checkpointing,
    "train.precision": precision,
    "train.save_every": saved,
    "train.sample_every": sampled,
    "train.state_every": stated,
    "sample.draw": undrawn,
    "sample.prompts": prompted,
    "sample.steps": drawn_with("sample.steps", 3),
    "sample.guidance": drawn_with("sample.guidance", 2.0),
    "export.dtype": number_format,
    "export.captions": tags,
}
ELSEWHERE = {"data.masks", "model.start_from", "train.processes"}  # have their own tests


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Trained:
    root = tmp_path_factory.mktemp("whole")
    pictures(root)
    job = Trained(root, tiny_base, **WHOLE)
    job()
    return job


def changed(whole: Trained, changes: dict[str, Any]) -> config.Config:
    return config.from_values({**values_of(whole.request.settings), **changes})


@pytest.mark.parametrize("path", RUNS)
def test_what_a_whole_run_shows(tmp_path: Path, weights: Callable[..., str], whole: Trained, path: str) -> None:
    RUNS[path](tmp_path, weights, whole)


def test_every_setting_has_its_effect_tested() -> None:
    assert {s.path for s in config.settings()} <= {*WEIGHTS, *RUNS, *ELSEWHERE}


@pytest.mark.parametrize(
    "values",
    [
        {"lora.text_encoder_rank": 4},
        {"data.keep_tokens": 3},
        {"train.sample_every": 3, "sample.draw": False},
        {"lora.dropout": 0.1, "lora.kind": "loha"},
        {"train.lora_plus": 4.0, "lora.kind": "lokr"},
        {"train.lora_plus": 4.0, "train.optimizer": "prodigy", "train.unet_lr": 1.0},
        {"lora.blocks": "up_blocks", "train.unet_lr": 0.0, "train.text_encoder_lr": 1e-4},
        {"train.processes": 2},
        {"train.processes": 4, "train.batch_size": 3, "train.gradient_accumulation": 2},
        {"train.optimizer": "prodigy"},
        {"train.optimizer": "prodigy", "train.unet_lr": 1.0, "train.text_encoder_lr": 0.5},
    ],
)
def test_what_would_do_nothing_is_refused_with_the_reason(values: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(values)).replace(".", r"\.")) as caught:
        config.from_values(values)
    assert re.search("it would do nothing: .{10}|finds the rate itself|Make that a multiple of", caught.value.text.en)


def test_every_rule_is_about_a_setting_and_names_the_way_out() -> None:
    known = {s.path: s.default for s in config.settings()}
    assert {rule.path for rule in config.INACTIVE_RULES} <= known.keys()
    assert not contradictions(known, known)


def test_what_does_not_move_is_stopped_with_advice(tiny_base: Path, tmp_path: Path) -> None:
    job = Trained(tmp_path, tiny_base, **{"train.steps": 30, "train.unet_lr": 1e-12, "train.weight_decay": 0.0})
    with pytest.raises(Unmoved, match="Raise the learning rate"):
        job()


def test_orders_are_few_keep_the_front_and_are_all_used() -> None:
    settings = config.from_values({"data.shuffle": True, "data.keep_tokens": 1})
    found = tag_orders("zz, a, b, c, d", settings)
    assert 1 < len(found) <= 8
    assert {tuple(sorted(x.split(", "))) for x in found} == {("a", "b", "c", "d", "zz")}
    assert all(x.startswith("zz, ") for x in found)
    assert tag_orders("one sentence", settings) == ["one sentence"]
    japanese = tag_orders("魔法少女、赤い髪、青い目、笑顔", settings)
    assert len(japanese) > 1
    assert all(x.startswith("魔法少女、") for x in japanese)
    trigger = config.from_values({"data.shuffle": True, "data.keep_tokens": 1, "data.trigger": "mystyle"})
    assert all(x.startswith("mystyle, ") for x in tag_orders("red hair, mystyle, blue eyes, smile", trigger))
    assert tag_orders("zz, a, b", config.from_values({})) == ["zz, a, b"]


def test_noise_offset_adds_one_number_a_channel() -> None:
    plain, shifted = (draw(3, (4, 8, 8), 1000, 5, offset).noise for offset in (0.0, 0.5))
    change = (shifted - plain).flatten(1)
    assert change.std(1).max() < 1e-6
    assert change.mean(1).std() > 0
