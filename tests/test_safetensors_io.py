"""A base's weights without a second copy in memory: the same numbers as the library reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from sdlora.core.errors import BadInput, BaseUnusable
from sdlora.core.safetensors_io.reader import load_as_dtype
from sdlora.models import load
from sdlora.models.bases import resolve_base
from sdlora.models.load import load_base

FILE = "unet/diffusion_pytorch_model.safetensors"


def test_tensors_come_in_the_dtype_that_is_wanted(tmp_path: Path) -> None:
    mixed = {
        "half": torch.randn(3, 5).half(),
        "whole": torch.arange(4),
        "full": torch.randn(2, 2, 2),
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0, 3),
    }
    save_file(mixed, tmp_path / "mixed.safetensors")
    found = load_as_dtype(
        tmp_path / "mixed.safetensors", lambda name: torch.float32 if name == "half" else torch.bfloat16
    )
    for name, tensor in load_file(tmp_path / "mixed.safetensors").items():
        wanted = torch.int64 if name == "whole" else torch.float32 if name == "half" else torch.bfloat16
        assert torch.equal(found[name], tensor.to(wanted)), name
        assert found[name].dtype == wanted


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_unet_is_the_one_that_diffusers_reads(tiny_base: Path, precision: load.Precision) -> None:
    unet = load_base(resolve_base(str(tiny_base)), precision).unet
    theirs = UNet2DConditionModel.from_pretrained(tiny_base, subfolder="unet", torch_dtype=unet.dtype)
    mine, other = unet.state_dict(), theirs.state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[k], other[k]) and mine[k].dtype == other[k].dtype for k in mine)
    assert not any(b.is_meta for b in unet.buffers())


def test_other_layouts_are_left_to_diffusers(tiny_base: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    weights = load_file(base / FILE)
    save_file({**weights, "stray": torch.zeros(1)}, base / FILE, {"format": "pt"})
    assert load._read_unet(base, torch.float32) is None
    assert load_base(resolve_base(str(base)), "fp32").unet
    (base / FILE).write_bytes((tiny_base / FILE).read_bytes()[:-100])
    with pytest.raises(BadInput):
        load_as_dtype(base / FILE, lambda name: torch.float32)
    with pytest.raises(BaseUnusable):
        load_base(resolve_base(str(base)), "fp32")
