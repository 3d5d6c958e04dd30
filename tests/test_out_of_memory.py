"""Memory that runs out once in any phase: the job ends done, with the same kind of warning that says what was changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from sdlora.core.errors import OutOfMemory
from sdlora.core.events import Judged, Sampled, Stepped, Warned
from sdlora.core.oom_retry import once, retry_on_oom
from sdlora.core.text import Text
from sdlora.families.autoencoder import smaller_tile, tiled
from sdlora.families.base_model import Base
from sdlora.models import load as load_module
from sdlora.models.precision import allow_tf32
from sdlora.render import renderer, verify
from sdlora.train import batches, distributed, evaluate, latents, run, setup
from sdlora.train.distributed import World
from sdlora.train.spill import SpillWatch
from tests.test_lora import load
from tests.test_train import Trained

MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB"
# phase -> module, function in it that runs out, whether a call counts, words of the warning
PHASES: dict[str, tuple[Any, str, Any, str]] = {
    "loading": (setup, "load_base", None, "loaded again"),
    "texts": (setup, "encode_unique", None, "on the processor"),
    "latents": (latents, "to_latents", None, "encoded in tiles"),
    "evaluation": (evaluate, "sample_losses", None, "4 of 8 noise levels"),
    "estimate": (renderer.Renderer, "_run", lambda self, picture, *rest: picture.steps == 2, "picture was drawn"),
    "samples": (renderer.Renderer, "_run", lambda self, picture, *rest: picture.steps == 3, "picture was drawn"),
    "decoding": (renderer, "to_pixels", None, "picture was decoded"),
    "certificate": (renderer.Renderer, "_run", lambda self, picture, side: self.adapters is None, "picture was drawn"),
    "comparison": (verify, "_live", None, "compared again"),
    "step": (batches, "predict", lambda *rest: torch.is_grad_enabled(), "checkpointing"),
}


class RunsOut:
    """A function that runs out of memory the first time that a call counts."""

    def __init__(self, function: Any, counts: Any):
        self.function, self.counts, self.raised = function, counts or (lambda *arguments: True), 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if not self.raised and self.counts(*arguments):
            self.raised += 1
            raise torch.OutOfMemoryError(MESSAGE)
        return self.function(*arguments, **named)


@pytest.mark.parametrize("phase", PHASES)
def test_a_job_ends_done_and_says_what_was_changed(
    phase: str, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, name, counts, words = PHASES[phase]
    runs_out = RunsOut(getattr(place, name), counts)
    monkeypatch.setattr(place, name, lambda *arguments, **named: runs_out(*arguments, **named))
    monkeypatch.setattr(run, "MIN_STEPS", 2)
    trained = Trained(tmp_path, tiny_base, **{"train.steps": 2, "sample.steps": 3, "train.precision": "fp32"})
    result = trained()
    assert runs_out.raised == 1
    assert result.finished
    assert result.certificate
    assert len(trained.of(Stepped)) == len(trained.of(Judged)) == 2
    assert trained.of(Sampled)
    (warned,) = trained.of(Warned)
    assert warned.code == "memory"
    assert words in warned.en
    assert "メモリが不足" in warned.ja


def test_a_vae_that_runs_out_inside_a_step_does_not_cut_the_batch(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs_out = RunsOut(latents.to_latents, lambda *rest: bool(trained_to))
    trained_to: list[str] = []
    train = run.train
    monkeypatch.setattr(latents, "to_latents", lambda *arguments: runs_out(*arguments))
    monkeypatch.setattr(run, "train", lambda *arguments: (trained_to.append("step"), train(*arguments))[1])
    trained = Trained(tmp_path, tiny_base, **{"train.steps": 2, "sample.draw": False})
    assert trained().finished
    assert runs_out.raised == 1
    assert ["tiles" in w.en for w in trained.of(Warned)] == [True]


def test_what_cannot_be_made_smaller_says_how_much_is_missing() -> None:
    told: list[Text] = []

    def never() -> None:
        raise torch.OutOfMemoryError(MESSAGE)

    with pytest.raises(OutOfMemory, match=r"2\.00 GiB more"):
        retry_on_oom(never, once(Text("once", "一度")), told.append)
    assert [text.en for text in told] == ["once"]


def test_another_error_is_not_tried_again() -> None:
    def broken() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        retry_on_oom(broken, once(Text("", "")), print)


def test_a_picture_in_parts_is_the_same_picture(tiny_base: Path) -> None:
    """Rows one by one to rounding; tiles of a tiny VAE differ at their seams only."""
    import numpy as np

    whole = renderer.Renderer(load(tiny_base))
    drawing = renderer.DrawRequest("red disc", steps=3)
    expected = np.asarray(whole.draw(drawing), dtype=np.float32)
    whole.single_rows = True
    assert np.abs(np.asarray(whole.draw(drawing), dtype=np.float32) - expected).max() <= 1
    assert "forward" not in vars(whole.base.denoiser)
    whole.tile = smaller_tile(0, whole.base.resolution // whole.base.factor)
    assert whole.tile
    parts = np.asarray(whole.draw(drawing), dtype=np.float32)
    assert 0 < np.abs(parts - expected).mean() < 16
    assert not whole.base.vae.use_tiling


def test_tiles_are_smaller_than_the_picture() -> None:
    assert [smaller_tile(tile, 128) for tile in (0, 64, 32, 16, 8)] == [64, 32, 16, 8, 0]
    assert smaller_tile(0, 64) == 32
    assert smaller_tile(0, 8) == 0


def test_tiles_bound_what_a_vae_computes_at_once(tiny_base: Path) -> None:
    base, sizes = load(tiny_base), list[int]()
    base.vae.decoder.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape[-1]))
    latent = torch.zeros(2, base.vae.config.latent_channels, 40, 40)
    with tiled(base.vae, 16), torch.no_grad():
        base.vae.decode(latent)
    assert max(sizes) == 16


def test_gradients_are_summed_in_smaller_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with equal gradients: every sum is twice what this one has."""
    told: list[Text] = []
    parameters = [nn.Parameter(torch.zeros(size)) for size in (3, 5, 7)]
    grads = [torch.full((size,), float(size)) for size in (3, 5)]
    parameters[0].grad, parameters[1].grad = (grad.clone() for grad in grads)
    monkeypatch.setattr(distributed, "_all_reduce", lambda tensor: tensor.mul_(2))
    monkeypatch.setattr(torch, "cat", RunsOut(torch.cat, None))
    World(0, 2).all_reduce_grads(parameters, told.append)
    for parameter, grad in zip(parameters[:2], grads, strict=True):
        assert torch.equal(parameter.grad, 2 * grad)  # type: ignore[arg-type]
    assert parameters[2].grad is None
    assert ["smaller messages" in text.en for text in told] == [True]


def test_memory_that_spills_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 10 steps of 0.2 s, steps of 30 s: told at the third, where more is held than free."""
    memory = {"free": 8_000, "reserved": 6_000}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (memory["free"], 8_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: memory["reserved"])
    watch = SpillWatch(torch.device("cuda", 0))
    assert not any(watch.after_step(seconds) for seconds in [*[0.2] * 10, 30.0, 0.2, *[30.0] * 5])
    memory["free"] = 100
    warned = [watch.after_step(30.0) for _ in range(3)]
    assert [w.code for w in warned if w] == ["memory"]
    assert not any(SpillWatch(torch.device("cpu")).after_step(seconds) for seconds in [*[0.2] * 10, *[30.0] * 5])


def test_the_denoiser_comes_to_the_gpu_when_text_encoders_are_gone(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a CPU that counts as a device with memory of its own."""
    moved: list[str] = []
    to, free = UNet2DConditionModel.to, Base.free_text_encoders
    monkeypatch.setattr(load_module, "STAGED_DEVICES", ("cpu",))
    monkeypatch.setattr(UNet2DConditionModel, "to", lambda self, *a, **k: (moved.append("unet"), to(self, *a, **k))[1])
    monkeypatch.setattr(Base, "free_text_encoders", lambda self: (moved.append("texts gone"), free(self))[1])
    assert Trained(tmp_path, tiny_base, **{"train.steps": 2, "sample.draw": False})().finished
    assert moved[:2] == ["texts gone", "unet"]


def test_many_texts_are_kept_in_the_machines_memory(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[torch.device] = []
    encode_unique = setup.encode_unique

    def remember(base: Base, texts: Any, kept_on: torch.device) -> Any:
        kept.append(kept_on)
        return encode_unique(base, texts, torch.device("cpu"))

    monkeypatch.setattr(setup, "encode_unique", remember)
    base = replace(load(tiny_base), device=torch.device("meta"))
    request = Trained(tmp_path, tiny_base).request
    for limit in (300, 1):
        monkeypatch.setattr(setup, "MAX_GPU_TEXTS", limit)
        monkeypatch.setattr(Base, "free_text_encoders", lambda self: None)
        setup._encode_texts(request, base, [], print)
    assert [device.type for device in kept] == ["meta", "cpu"]


def test_fp32_products_take_tf32_on_a_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    allow_tf32(torch.device("cpu"))
    assert not asked
    allow_tf32(torch.device("cuda"))
    assert asked == ["high"]
