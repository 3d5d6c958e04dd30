"""What a process of ours finds in its environment: which GPUs there are, whose they are, how CUDA's memory is cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdlora.core import environment
from sdlora.core.environment import child_environment, gpu_count, preview_gpu, previews_share_gpu, visible_gpus

NO_WSL = Path("/no such file")


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with two GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for k in range(2):
        (tmp_path / f"0000:0{k}:00.0").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("chosen", "names"),
    [(None, ["0", "1"]), ("1", ["1"]), ("1,0", ["1", "0"]), ("", []), ("-1", []), ("0,-1,1", ["0"])],
)
def test_gpus_are_those_that_torch_will_see(
    driver: Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None, names: list[str]
) -> None:
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_gpus(driver, NO_WSL) == names


def test_wsl_lists_no_gpus_but_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "libcuda.so.1").touch()
    assert gpu_count(tmp_path / "none", tmp_path / "libcuda.so.1") == 1
    assert gpu_count(tmp_path / "none", NO_WSL) == 0


def test_the_previewer_has_a_gpu_of_its_own_where_there_are_several(
    driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert preview_gpu(driver, NO_WSL) == {"CUDA_VISIBLE_DEVICES": "1"}
    assert not previews_share_gpu(1, driver, NO_WSL)
    assert previews_share_gpu(2, driver, NO_WSL)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert preview_gpu(driver, NO_WSL) == {}
    assert previews_share_gpu(1, driver, NO_WSL)
    assert not previews_share_gpu(1, tmp_path / "none", NO_WSL), "a CPU's memory is not handed over"


def test_cuda_is_asked_for_segments_that_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_is_idle", lambda: False)
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    assert child_environment()["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "max_split_size_mb:64")
    assert child_environment()["PYTORCH_ALLOC_CONF"] == "max_split_size_mb:64"
    monkeypatch.delenv("PYTORCH_ALLOC_CONF")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64")
    assert "PYTORCH_ALLOC_CONF" not in child_environment()
