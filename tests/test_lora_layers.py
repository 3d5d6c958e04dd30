"""The layers of a plain LoRA compute what PEFT's do, to rounding, and follow their parameters."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from sdlora.adapters.fused_attention import unfuse
from sdlora.adapters.inject import inject
from sdlora.adapters.kind_spec import ADAPTER
from sdlora.adapters.lora_layers import LoraConv2d, LoraLinear, use_own_forward
from sdlora.adapters.spec import AdapterConfig
from sdlora.families.conditioning import Conditioning
from tests.families import base_of, ready, steps

SHAPES = [(2, 7, 24), (2, 3, 8, 8)]


def layers(dtype: torch.dtype) -> tuple[nn.Sequential, nn.Sequential]:
    """A linear layer and a convolution with trained adapters: PEFT's own, and with our forward pass."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 40), nn.Conv2d(3, 5, 3, padding=1, stride=2)).requires_grad_(False).to(dtype)
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=6, target_modules="[01]"), model, adapter_name=ADAPTER)
    for layer in model:
        nn.init.normal_(layer.lora_B[ADAPTER].weight)
        for matrix in (layer.lora_A, layer.lora_B):
            matrix[ADAPTER].weight.data = matrix[ADAPTER].weight.data.float()
    ours = copy.deepcopy(model)
    for layer in ours:
        use_own_forward(layer)
    assert isinstance(ours[0], LoraLinear)
    assert isinstance(ours[1], LoraConv2d)
    return model, ours


def off(a: Tensor | None, b: Tensor | None) -> float:
    assert a is not None
    assert b is not None
    assert a.dtype == b.dtype
    return ((a - b).float().norm() / a.float().norm()).item()


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-6), (torch.bfloat16, 6e-3), (torch.float16, 1e-3)])
@pytest.mark.parametrize("index", [0, 1])
def test_same_as_peft(dtype: torch.dtype, rounding: float, index: int) -> None:
    peft, ours = (model[index] for model in layers(dtype))
    x = torch.randn(SHAPES[index], dtype=dtype)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(one) for layer, one in zip((peft, ours), inputs, strict=True)]
    assert off(*outputs) < rounding
    gradient = torch.randn_like(outputs[0])
    for output in outputs:
        output.backward(gradient)
    assert off(inputs[0].grad, inputs[1].grad) < rounding
    for matrix in ("lora_A", "lora_B"):
        theirs, own = (getattr(layer, matrix)[ADAPTER].weight.grad for layer in (peft, ours))
        assert own.dtype == torch.float32, "what is trained is fp32"
        assert off(theirs, own) < rounding


@pytest.mark.parametrize("index", [0, 1])
def test_strength_0_is_the_frozen_layer_bit_for_bit(index: int) -> None:
    _, ours = layers(torch.bfloat16)
    x = torch.randn(SHAPES[index], dtype=torch.bfloat16)
    ours[index].set_scale(ADAPTER, 0.0)
    assert torch.equal(ours[index](x), ours[index].get_base_layer()(x))


def test_every_linear_layer_and_convolution_of_a_plain_lora_is_ours(tmp_path: Path) -> None:
    base = base_of("sd1", tmp_path)
    adapters = inject({"unet": base.denoiser}, base.family.lora, AdapterConfig(2, 2.0, "attention+ff+conv"), seed=0)
    assert {type(layer) for layer in adapters.parts["unet"].values()} == {LoraLinear, LoraConv2d}


def test_an_update_reaches_the_next_forward_pass(tmp_path: Path) -> None:
    """A fused optimizer changes parameters without a trace; the copies in bf16 must follow it all the same."""
    run = ready("sd1", tmp_path, tmp_path / "out", **{"train.precision": "bf16"})
    steps(run)
    working = [layer for layer in run.trainer.adapters.parts["unet"].values() if layer.working is not None]
    assert working
    for layer in working:
        for copied, matrix in zip(layer.working[1:], (layer.lora_A, layer.lora_B), strict=True):
            assert torch.equal(copied, matrix[ADAPTER].weight.to(torch.bfloat16))


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_fused_attention_trains_as_the_layers_one_by_one(family: str, tmp_path: Path) -> None:
    """In fp64, where rounding does not hide a mistake."""
    base = base_of(family, tmp_path)
    adapters = inject({"unet": base.denoiser.double()}, base.family.lora, AdapterConfig(4, 6.0, "attention+ff"), seed=0)
    g = torch.Generator().manual_seed(5)
    parameters = adapters.named_parameters()
    for parameter in parameters.values():
        parameter.data = torch.randn(parameter.shape, generator=g, dtype=torch.float64) * 0.1
    adapters.fuse(base.denoiser)
    assert adapters.projections, "no block fits"
    encoders = [base.parts[part].config.hidden_size for part in base.family.text_encoders]
    x, text = (torch.randn(s, generator=g, dtype=torch.float64) for s in ((2, 4, 8, 8), (2, 7, sum(encoders))))
    conditioning = Conditioning({"prompt_embeds": text, "pooled_prompt_embeds": torch.ones(2, encoders[-1]).double()})
    found = []
    for _ in range(2):
        output = base.family.predict(
            dataclasses.replace(base, dtype=torch.float64), x, torch.tensor([5, 700]), conditioning, [[8] * 6] * 2
        )
        output.square().sum().backward()
        found.append({"output": output.detach()} | {name: p.grad for name, p in parameters.items()})
        for parameter in parameters.values():
            parameter.grad = None
        unfuse(base.denoiser)
    largest = max(
        one.abs().max() for one in found[1].values()
    )  # beside it, attention to a single token has no gradient
    for name, plain in found[1].items():
        assert (plain - found[0][name]).abs().max() < 1e-12 * largest, name


def test_fused_attention_draws_as_the_layers_one_by_one_bit_for_bit(tmp_path: Path) -> None:
    run = ready("sd1", tmp_path, tmp_path / "out")
    denoiser, base = run.trainer.base.denoiser.eval(), base_of("sd1", tmp_path).denoiser
    x, text = torch.randn(1, 4, 8, 8), torch.randn(1, 7, denoiser.config.cross_attention_dim)
    with torch.no_grad():
        untrained, own = (m(x, 3, encoder_hidden_states=text).sample for m in (denoiser, base))
    assert torch.equal(untrained, own)


def test_fused_weights_take_no_second_copy(tmp_path: Path) -> None:
    adapters = ready("sd1", tmp_path, tmp_path / "out").trainer.adapters
    for group in adapters.projections:
        for layer in group.layers:
            assert layer.base_layer.weight.untyped_storage().data_ptr() == group.weight.untyped_storage().data_ptr()
