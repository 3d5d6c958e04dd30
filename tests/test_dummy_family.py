"""Another model family is one spec: it trains, resumes, exports, is verified and draws through the code that SD 1.x does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageChops
from safetensors import safe_open

from sdlora.core.events import Sampled
from sdlora.families import FAMILIES
from sdlora.lora_files.inspect import inspect_file
from sdlora.models.bases import facts, resolve_base
from sdlora.models.load import load_base
from sdlora.render.renderer import DrawRequest, Renderer
from tests.dummy_family import DUMMY, LAYERS, FlowObjective, make_folder
from tests.test_train import Trained

SETTINGS: dict[str, Any] = {
    "train.text_encoder_lr": 1e-2,
    "train.resolution": 16,
    "lora.targets": "attention+ff",
    "lora.alpha": 64.0,
    "sample.prompts": "red disc",
    "export.dtype": "fp32",
}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(FAMILIES, "dummy", DUMMY)
    return make_folder(tmp_path / "base")


def test_it_is_known_by_its_files(base: Path) -> None:
    known = facts(resolve_base(str(base)))
    assert known is not None
    assert (known.family, known.prediction, known.resolution) == ("dummy", "flow", 32)
    assert set(known.shapes) == {"transformer", "text_encoder"}


def test_its_objective_is_consistent() -> None:
    objective, (x_0, noise, other) = FlowObjective(1000), torch.randn(3, 2, 8, 4, 4).unbind()
    t = torch.tensor([300, 900])
    x_t = objective.add_noise(x_0, noise, t)
    assert torch.allclose(objective.predict_x0(x_t, objective.target(x_0, noise, t), t), x_0, atol=1e-5)
    assert torch.allclose(objective.predict_x0(x_t, objective.target_for_x0(other, x_t, t), t), other, atol=1e-5)


def test_it_trains_exports_and_draws(base: Path, tmp_path: Path) -> None:
    """A file's strength 1 is what the trainer drew, 0 is the base."""
    trained = Trained(tmp_path / "job", base, **SETTINGS)
    result = trained()
    assert result.certificate is not None
    assert result.file is not None
    found = inspect_file(result.file)
    assert (found.family, found.format) == ("dummy", "kohya")
    with safe_open(result.file, "pt") as file:
        names, metadata = set(file.keys()), file.metadata()
    layers = {name.split(".")[0] for name in names if name.startswith("lora_transformer_")}
    assert len(layers) == LAYERS * 11 - 2, "the last block has no feed-forward for its text"
    assert metadata["ss_base_model_version"] == "dummy_v1"

    renderer = Renderer(load_base(resolve_base(str(base)), "fp32", torch.device("cpu")))
    request = DrawRequest(
        "red disc", seed=trained.request.settings.train.seed, steps=2, guidance=trained.request.settings.sample.guidance
    )
    plain = renderer.draw(request)
    renderer.load(result.file)
    renderer.set_strength(1.0)
    last = [e for e in trained.of(Sampled) if e.strength == 1.0][-1]
    with Image.open(trained.folders.root / last.file) as sample:
        assert _largest_difference(renderer.draw(request), sample) <= 2
    assert _largest_difference(renderer.draw(request), plain) > 2
    renderer.set_strength(0.0)
    assert _largest_difference(renderer.draw(request), plain) == 0


def test_it_resumes_to_the_byte(base: Path, tmp_path: Path) -> None:
    whole = Trained(tmp_path / "whole", base, **SETTINGS)()
    Trained(tmp_path / "broken", base, stop_at=3, **SETTINGS)()
    again = Trained(tmp_path / "broken", base, **SETTINGS)()
    assert whole.file is not None
    assert again.file is not None
    assert again.file.read_bytes() == whole.file.read_bytes()


def _largest_difference(a: Image.Image, b: Image.Image) -> int:
    assert a.size == b.size
    return max(high for _, high in ImageChops.difference(a.convert("RGB"), b.convert("RGB")).getextrema())
