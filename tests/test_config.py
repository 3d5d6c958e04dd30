"""Settings are declared once; what cannot be meant is refused with a sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from sdlora import config
from sdlora.adapters.kinds import KINDS
from sdlora.adapters.spec import AdapterConfig
from sdlora.core.errors import BadInput


@pytest.mark.parametrize(
    "bad",
    [
        {"lora.rank": 3.7},
        {"lora.rank": True},
        {"lora.rank": "8"},
        {"lora.rank": 0},
        {"lora.rank": None},
        {"lora.alpha": float("nan")},
        {"lora.alpha": float("inf")},
        {"train.unet_lr": -1e-4},
        {"train.steps": 10**9},
        {"lora.targets": "everything"},
        {"lora.blocks": "up_blocks(.+)+"},
        {"lora.rnk": 8},
        {"loar.rank": 8},
        {"rank": 8},
        {"data.trigger": "x" * 1000},
        {"train.unet_lr": 0.0, "train.text_encoder_lr": 0.0},
    ],
)
def test_refused_with_a_sentence_in_both_languages(bad: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        config.from_values(bad)
    assert caught.value.text.en
    assert re.search(r"[ぁ-ん]", caught.value.text.ja)


def test_values_come_back() -> None:
    made = config.from_values({"lora.rank": 4, "lora.alpha": 8, "data.trigger": "ジオ style"})
    assert made.lora.alpha == 8.0
    assert config.from_values(config.values_of(made)) == made
    assert config.from_nested(made.model_dump()) == made


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lora.rank=8", 8),
        ("train.unet_lr=1e-3", 1e-3),
        ("data.flip=off", False),
        ("data.trigger=8", "8"),
        ("data.trigger=a=b", "a=b"),
        ("lora.targets=attention", "attention"),
    ],
)
def test_assignments_are_typed_by_the_setting(text: str, value: Any) -> None:
    path, parsed = config.parse_assignment(text)
    assert parsed == value
    assert type(parsed) is type(value)
    config.from_values({path: parsed})


@pytest.mark.parametrize(
    "text", ["lora.rank", "lora.rank=", "lora.rank=eight", "lora.rank=8.5", "nothing=1", "data.flip=maybe"]
)
def test_assignments_that_cannot_be_read(text: str) -> None:
    with pytest.raises(BadInput):
        config.parse_assignment(text)


def test_every_setting_speaks_both_languages() -> None:
    for s in config.settings():
        for text in (s.label, s.help):
            assert text.en.strip(), s.path
            assert text.ja.strip(), s.path
        assert re.search(r"[ぁ-んァ-ヶ一-龠]", s.help.ja), s.path
    assert set(config.SECTIONS) == {s.path.split(".")[0] for s in config.settings()}


def test_every_preset_is_whole() -> None:
    found = config.presets()
    assert list(found) == ["style", "character", "quick-look", "sdxl-style"]
    for preset in found.values():
        assert re.search(r"[ぁ-んァ-ヶ一-龠]", preset.title.ja + preset.summary.ja)
        for base in ("emoji", "owner/name"):
            config.resolve(preset.name, base)


def test_presets_know_bases_and_changes_win() -> None:
    on_emoji, elsewhere = config.resolve("style"), config.resolve("style", "owner/name")
    assert on_emoji.train.unet_lr != elsewhere.train.unet_lr
    assert elsewhere.model.base == "owner/name"
    assert config.resolve("style", changes=[("train.unet_lr", 5e-5)]).train.unet_lr == 5e-5
    with pytest.raises(BadInput, match="no preset"):
        config.resolve("nonsense")


def test_a_broken_preset_is_named(tmp_path: Path) -> None:
    for content in (
        "not toml [",
        "[lora]\nrank = 4",
        '[about]\ntitle={en="a",ja="b"}\nsummary={en="a",ja="b"}\n[lora]\nrank="x"',
    ):
        (tmp_path / "mine.toml").write_text(content)
        with pytest.raises(BadInput):
            config.presets(tmp_path)


def test_the_section_lora_is_the_adapters_own_configuration() -> None:
    """`AdapterConfig` takes plain arguments, so its seven fields are declared twice; they must not drift apart."""
    declared = {name: field.annotation for name, field in config.Config().lora.__class__.model_fields.items()}
    assert set(get_args(declared.pop("kind"))) == KINDS.keys()
    assert declared | {"kind": str} == get_type_hints(AdapterConfig)
    assert AdapterConfig(**config.Config().lora.model_dump()).scale == 1.0


def test_a_warm_up_longer_than_the_run_is_refused() -> None:
    with pytest.raises(BadInput, match="is 100, but the run has 4 steps"):
        config.resolve(changes=[("train.steps", 4), ("train.warmup_steps", 100)])
    for steps in (4, 15, 400):  # a preset's own is meant for the length of its runs
        train = config.resolve(changes=[("train.steps", steps)]).train
        assert train.warmup_steps <= steps
    old = {"train": {"steps": 4, "warmup_steps": 100}}
    assert config.from_stored(old).train.warmup_steps == 100, "a job of an older version can still be read"
