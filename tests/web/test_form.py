"""The settings form: a setting without effect is disabled, says why, and counts as its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sdlora import config
from sdlora.core.environment import gpu_count
from sdlora.core.text import Language
from sdlora.web import form
from sdlora.web.context import Page
from sdlora.web.form import Form

DEFAULTS: dict[str, Any] = {s.path: s.default for s in config.settings()}
FORM: Any = Form({path: path for path in DEFAULTS})  # type: ignore[misc]  # a field stands for itself


def updates(values: dict[str, Any], language: Language = "en") -> dict[str, dict[str, Any]]:
    page = Page(None, language)  # type: ignore[arg-type]
    return dict(zip(FORM.dependent, FORM.dependent_updates(page, {**DEFAULTS, **values}), strict=True))


@pytest.mark.parametrize(
    ("path", "asked", "without", "with_effect"),
    [
        ("lora.text_encoder_rank", 4, {}, {"train.text_encoder_lr": 1e-4}),
        ("data.keep_tokens", 3, {}, {"data.shuffle": True}),
        ("lora.dropout", 0.1, {"lora.kind": "loha"}, {}),
        ("train.lora_plus", 4.0, {"lora.kind": "lokr"}, {}),
    ],
)
def test_a_setting_without_effect_is_disabled_and_says_why(
    path: str, asked: Any, without: dict[str, Any], with_effect: dict[str, Any]
) -> None:
    assert not updates(without)[path]["interactive"]
    assert updates(without)[path]["info"].startswith("No effect now: ")
    assert updates(without, "ja")[path]["info"].startswith("現在は効果がありません")
    assert updates(with_effect)[path]["interactive"]
    help = next(s.help.en for s in config.settings() if s.path == path)
    assert updates(with_effect)[path]["info"] == help
    assert FORM.read({**DEFAULTS, **without, path: asked})[path] == DEFAULTS[path]
    assert FORM.read({**DEFAULTS, **with_effect, path: asked})[path] == asked
    config.from_values(FORM.read({**DEFAULTS, **without, path: asked}))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_several_processes_are_offered_where_there_are_several_gpus(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(count):
        (tmp_path / f"0000:0{k}:00.0").mkdir()
    monkeypatch.setattr(form, "gpu_count", lambda: gpu_count(tmp_path))
    page = Page(None, "en")  # type: ignore[arg-type]
    assert form.field(page, "train.processes", 1).visible == (count > 1)
    assert form.field(page, "train.steps", 1).visible
