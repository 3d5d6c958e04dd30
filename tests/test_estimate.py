"""The forecast: it is measured on real steps, counts what the run then does, and leaves no trace in the run."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sdlora.config import from_values
from sdlora.core.events import Estimate, Follower, Judged, Phase, Sampled, Started, append
from sdlora.train import estimate as estimate_module
from sdlora.train import run as run_module
from sdlora.train.evaluate import STRENGTHS
from tests.test_train import Trained

LONG: dict[str, Any] = {
    "train.steps": 20,
    "train.batch_size": 1,
    "train.state_every": 50,
    "train.save_every": 7,
    "train.sample_every": 20,
    "train.ema": 0.9,
    "train.text_encoder_lr": 1e-3,
    "lora.dropout": 0.2,
    "sample.steps": 1,
}


def test_a_forecast_leaves_no_trace(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Trained(tmp_path / "measured", tiny_base, **LONG)
    result = measured()
    assert [type(e) for e in measured.events if isinstance(e, Estimate | Started)] == [Estimate, Started]
    (told,) = measured.of(Estimate)
    assert result.file is not None
    assert told.file_bytes <= result.file.stat().st_size < told.file_bytes + 5000, "less a thumbnail and the strength"
    assert 0 < told.peak_bytes < told.memory_bytes

    monkeypatch.setattr(run_module, "MIN_STEPS", 21)
    plain = Trained(tmp_path / "plain", tiny_base, **LONG)
    assert plain().sha256 == result.sha256
    assert not plain.of(Estimate)


def test_it_counts_what_the_run_then_does(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a second a step, a hundred a picture and a thousand a judgement, the seconds say how many of each."""
    monkeypatch.setattr(estimate_module, "_step_seconds", lambda trainer, emit: 1.0)
    monkeypatch.setattr(estimate_module, "_drawing_seconds", lambda run: (0.0, 100.0))
    estimate = run_module.estimate

    def with_slow_evaluation(run: Any, began: float) -> Estimate:
        run.seconds.update(judging=1000.0, injecting=0.0)
        return estimate(run, began)

    monkeypatch.setattr(run_module, "estimate", with_slow_evaluation)
    trained = Trained(tmp_path, tiny_base, **LONG)
    trained()
    (told,) = trained.of(Estimate)
    judgements = len(trained.of(Judged)) + len(STRENGTHS)
    expected = 20 + 100 * len(trained.of(Sampled)) + 1000 * judgements
    assert expected < told.seconds < expected + 99, "and what has passed until then"


def test_without_samples_no_sample_is_measured(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(run: Any) -> Any:
        raise AssertionError("nothing is drawn in such a run")

    monkeypatch.setattr(estimate_module, "_drawing_seconds", drawn)
    values = {k: v for k, v in LONG.items() if k != "train.sample_every"}
    trained = Trained(tmp_path, tiny_base, **{**values, "sample.draw": False})
    trained()
    assert trained.of(Estimate)[0].seconds > 0


def test_steps_of_buckets_are_weighed(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a step takes 1 s and 0.01 s for each latent pixel, so does the mean over an epoch."""
    from tests.families import ready

    run = ready("sd1", tmp_path, tmp_path, **{"train.text_encoder_lr": 0.0, "train.batch_size": 1})
    monkeypatch.setattr(
        estimate_module,
        "_time_batch",
        lambda trainer, emit, batch: 1 + 0.01 * sum(trainer.items[i].latent().plain[0].numel() for i in batch),
    )
    assert estimate_module._step_seconds(run.trainer, run.emit) == pytest.approx(1 + 0.01 * (2 * 64 + 2 * 96) / 4)


def test_a_gpu_is_waited_for_and_its_free_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others hold 3 of its 8 GB, this process 1 of them."""
    waited: list[torch.device] = []
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4_000, 8_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1_000)
    assert estimate_module.memory_bytes(cuda) == 5_000
    assert estimate_module._now(cuda) <= time.monotonic()
    assert waited == [cuda]


def test_the_end_of_each_denoising_step_is_waited_for(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the clock is read without waiting, a GPU's time would all land on decoding."""
    clock = iter([10.0, 13.0, 13.5])
    monkeypatch.setattr(estimate_module, "_now", lambda device: next(clock))
    run = SimpleNamespace(
        trainer=SimpleNamespace(base=SimpleNamespace(device=torch.device("cuda", 0))),
        settings=from_values({}),
        renderer=SimpleNamespace(draw=lambda request, on_step: [on_step(k + 1, 2) for k in range(request.steps)]),
    )
    monkeypatch.setattr(estimate_module, "eval_mode", lambda trainer: contextlib.nullcontext())
    assert estimate_module._drawing_seconds(run) == (3.0, 0.5)  # type: ignore[arg-type]


def test_short_and_resumed_runs_do_without(tiny_base: Path, tmp_path: Path) -> None:
    trained = Trained(tmp_path, tiny_base, stop_at=1, **{**LONG, "train.steps": 19})
    trained()
    assert not trained.of(Estimate)
    assert Phase("measuring") not in trained.events


@pytest.mark.parametrize(
    ("language", "words"), [("en", "about 11 min in all, peak 7.2 of 24 GB"), ("ja", "全体で約 11 分")]
)
def test_the_page_shows_it_beside_the_progress(tmp_path: Path, language: Any, words: str) -> None:
    from sdlora.jobs.runner import Job
    from sdlora.web.context import Page
    from sdlora.web.views import progress

    site: Any = None
    spec: Any = SimpleNamespace(name="disc", settings=from_values({}))
    follower = Follower(tmp_path / "events.jsonl")
    follower.estimate = Estimate(660.0, 7_200_000_000, 24_000_000_000, 25_300_000)
    shown = {s: progress.status(Page(site, language), Job(spec, s, 0), follower, None) for s in ("running", "done")}  # type: ignore[arg-type]
    assert words in shown["running"]
    assert words not in shown["done"], "how long it really took is said then"


def test_it_reads_as_a_sentence(tmp_path: Path) -> None:
    told = Estimate(660.0, 7_200_000_000, 24_000_000_000, 25_300_000)
    assert told.text.en == "about 11 min in all, peak 7.2 of 24 GB, file 25 MB"
    assert told.text.ja == "全体で約 11 分、メモリ最大 7.2 / 24 GB、ファイル 25 MB"
    assert Estimate(8000.0, 1, 1, 900_000).text.en.startswith("about 2 h 13 min")
    append(tmp_path / "events.jsonl", told)
    assert '"event": "Foreseen"' in (tmp_path / "events.jsonl").read_text(), "the name on disk stays"
    follower = Follower(tmp_path / "events.jsonl")
    follower.poll()
    assert follower.estimate == told
