"""Convolutions whose weights lie in the kernels' own order: the same numbers, and nothing replaced that must stay."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sdlora.adapters.inject import inject
from sdlora.adapters.spec import AdapterConfig, Targets
from sdlora.models import packed
from sdlora.models.bases import resolve_base
from sdlora.models.load import load_base
from sdlora.models.packed import PackedConv, pack
from tests.layouts import LAYOUT

pytestmark = pytest.mark.skipif(
    not packed.is_supported(torch.float32), reason="this PyTorch has no packed convolutions"
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MIN_WEIGHTS", 1)


def conv(inside: int = 48, outside: int = 32, **how: Any) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(inside, outside, **{"kernel_size": 3, "padding": 1, **how}).requires_grad_(False)


def with_gradient(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = module(x)
    torch.manual_seed(1)
    return y.detach(), torch.autograd.grad(y, x, torch.randn(y.shape, dtype=y.dtype))[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(1, 8, 8), (3, 4, 10), (2, 1, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_gives_what_the_plain_one_gives(dtype: torch.dtype, size: tuple[int, int, int], bias: bool) -> None:
    if not packed.is_supported(dtype):
        pytest.skip("this processor has no packed convolutions in bf16")
    plain = conv(bias=bias).to(dtype)
    x = torch.randn(size[0], 48, *size[1:], dtype=dtype)
    for ours, wanted in zip(with_gradient(PackedConv(plain), x), with_gradient(plain, x), strict=True):
        assert ours.dtype == dtype
        assert ours.is_contiguous()
        torch.testing.assert_close(ours, wanted, atol=1e-5 if dtype == torch.float32 else 2e-2, rtol=1e-2)


def test_takes_what_is_not_contiguous() -> None:
    plain = conv()
    x = torch.randn(2, 48, 6, 6).to(memory_format=torch.channels_last)
    for ours, wanted in zip(with_gradient(PackedConv(plain), x), with_gradient(plain, x), strict=True):
        torch.testing.assert_close(ours, wanted)


def test_the_bytes_do_not_depend_on_what_was_shown_before() -> None:
    x = torch.randn(1, 48, 8, 8)
    fresh, used = PackedConv(conv()), PackedConv(conv())
    with_gradient(used, torch.randn(4, 48, 16, 12))
    for a, b in zip(with_gradient(fresh, x), with_gradient(used, x), strict=True):
        assert torch.equal(a, b)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "stays",
    [
        {"stride": 2},
        {"dilation": 2, "padding": 2},
        {"groups": 16},
        {"kernel_size": 1, "padding": 0},
        {"padding": 0},
        {"padding_mode": "reflect"},
        {"dtype": torch.float64},
    ],
)
def test_leaves_other_convolutions_alone(stays: dict) -> None:
    assert pack(nn.Sequential(conv(**stays))) == 0


@pytest.mark.usefixtures("small")
def test_leaves_alone_what_learns() -> None:
    assert pack(nn.Sequential(conv().requires_grad_(True))) == 0


def test_leaves_small_ones_alone() -> None:
    assert pack(nn.Sequential(conv())) == 0


@pytest.mark.usefixtures("small")
def test_without_the_operators_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "is_supported", lambda dtype: False)
    model = nn.Sequential(conv())
    assert pack(model) == 0
    assert isinstance(model[0], nn.Conv2d)


@pytest.mark.usefixtures("small")
def test_a_processor_without_bf16_keeps_the_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    ordered = packed._reorder

    def refuse(weight: Tensor) -> Tensor:
        if weight.dtype == torch.bfloat16:
            raise RuntimeError("mkldnn_reorder_conv2d_weight: bf16 path needs the cpu support avx512bw")
        return ordered(weight)

    packed.is_supported.cache_clear()
    monkeypatch.setattr(packed, "_reorder", refuse)
    model = nn.Sequential(conv().bfloat16())
    assert pack(model) == 0
    assert model(torch.randn(1, 48, 4, 4, dtype=torch.bfloat16)).shape == (1, 32, 4, 4)
    packed.is_supported.cache_clear()


@pytest.mark.usefixtures("small")
def test_a_machine_with_little_memory_keeps_the_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(conv())
    needed = model[0].weight.nbytes
    monkeypatch.setattr(packed.psutil, "virtual_memory", lambda: SimpleNamespace(total=8 * needed - 1))
    assert pack(model) == 0
    monkeypatch.setattr(packed.psutil, "virtual_memory", lambda: SimpleNamespace(total=8 * needed))
    assert pack(model) == 1


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("targets", ["attention", "attention+ff+conv"])
def test_a_unet_with_adapters_learns_the_same(targets: Targets) -> None:
    """The gradient of every adapter, through packed convolutions before and behind it."""
    unet = load_base(resolve_base("emoji")).denoiser
    adapters = inject({"unet": unet}, LAYOUT, AdapterConfig(rank=4, alpha=4.0, targets=targets), seed=3)
    torch.manual_seed(0)
    for p in adapters.named_parameters().values():
        nn.init.normal_(p, std=0.02)
    x, text = torch.randn(2, 4, 16, 16), torch.randn(2, 24, unet.config.cross_attention_dim)

    def gradients() -> list[Tensor]:
        loss = unet(x, torch.tensor([10, 900]), text).sample.square().mean()
        return list(torch.autograd.grad(loss, list(adapters.named_parameters().values())))

    wanted = gradients()
    assert pack(unet) > (5 if targets == "attention" else 0)
    assert not any(isinstance(layer.get_base_layer(), PackedConv) for layer in adapters.parts["unet"].values())
    for ours, plain in zip(gradients(), wanted, strict=True):
        # Against float64, plain fp32 is off by up to 0.045 here, channels-last by 0.075.
        assert (ours - plain).norm() < 0.2 * plain.norm()
