"""Another model family is one spec: it is told by its files and trained by its own objective."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sdlora.families import FAMILIES
from sdlora.models.bases import facts, resolve_base
from tests.dummy_family import DUMMY, FlowObjective, make_folder


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
