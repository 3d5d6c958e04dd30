"""Safetensors on disk: every number format read as the library reads it, headers that are not trusted, a base loaded without a second copy."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from sdlora.core.errors import BadInput, BaseUnusable
from sdlora.core.safetensors_io import writer
from sdlora.core.safetensors_io.dtypes import FORMATS, file_dtype, torch_dtype
from sdlora.core.safetensors_io.header import MAX_STRUCTURE, read_header, scalars
from sdlora.core.safetensors_io.reader import load_as_dtype
from sdlora.models import load
from sdlora.models.bases import resolve_base
from sdlora.models.load import load_base
from sdlora.models.precision import Precision

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
def test_a_unet_is_the_one_that_diffusers_reads(tiny_base: Path, precision: Precision) -> None:
    unet = load_base(resolve_base(str(tiny_base)), precision).denoiser
    theirs = UNet2DConditionModel.from_pretrained(tiny_base, subfolder="unet", torch_dtype=unet.dtype)
    mine, other = unet.state_dict(), theirs.state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[k], other[k]) and mine[k].dtype == other[k].dtype for k in mine)
    assert not any(b.is_meta for b in unet.buffers())


def test_other_layouts_are_left_to_diffusers(tiny_base: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    weights = load_file(base / FILE)
    save_file({**weights, "stray": torch.zeros(1)}, base / FILE, {"format": "pt"})
    assert load._read_into_dtype(base / "unet", UNet2DConditionModel, torch.float32) is None
    assert load_base(resolve_base(str(base)), "fp32").denoiser
    (base / FILE).write_bytes((tiny_base / FILE).read_bytes()[:-100])
    with pytest.raises(BadInput):
        load_as_dtype(base / FILE, lambda name: torch.float32)
    with pytest.raises(BaseUnusable):
        load_base(resolve_base(str(base)), "fp32")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16, torch.int8])
def test_every_value_of_a_format_is_read_as_torch_reads_it(tmp_path: Path, dtype: torch.dtype) -> None:
    """As single numbers without torch (an alpha), and as a tensor in another dtype (a base in fp8)."""
    one_of_each = torch.arange(256, dtype=torch.uint8).view(torch.int8).repeat_interleave(dtype.itemsize).view(dtype)
    tensors = {f"{n:03d}": one_of_each[n].clone() for n in range(256)} | {"all": one_of_each}
    path = tmp_path / "x.safetensors"
    writer.write(path, tensors)
    assert torch.equal(load_file(path)["all"].view(torch.uint8), one_of_each.view(torch.uint8))
    header, _, start = read_header(path)
    expected = one_of_each.double()
    found = torch.tensor(scalars(path, header, start, [f"{n:03d}" for n in range(256)]), dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    if dtype.is_floating_point:
        loaded = load_as_dtype(path, lambda name: torch.float64)["all"]
        torch.testing.assert_close(loaded, expected, rtol=0, atol=0, equal_nan=True)


def test_one_table_names_every_format() -> None:
    for name, number_format in FORMATS.items():
        if number_format.torch:
            dtype = torch_dtype(name)
            assert (file_dtype(dtype), dtype.itemsize) == (name, number_format.bytes)
    assert [torch_dtype(label) for label in ("fp32", "fp16", "bf16")] == [torch.float32, torch.float16, torch.bfloat16]


def test_a_large_cover_picture_is_no_reason_to_refuse_but_a_large_structure_is(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    cover = 'escaped \\" quote, ' * (MAX_STRUCTURE // 18)
    writer.write(path, {"x": torch.ones(2)}, {"ssmd_cover_images": cover})
    assert read_header(path)[1] == {"ssmd_cover_images": cover}
    text = b"[" * (MAX_STRUCTURE + 1)
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(BadInput, match="longer than 25 MB") as refused:
        read_header(path)
    assert "ヘッダーが 25 MB を超えています。" in refused.value.text.ja


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_a_pickle_is_named(tmp_path: Path, name: str) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / name)
    with pytest.raises(BadInput, match="a pickle, which can run code") as refused:
        read_header(tmp_path / name)
    assert "コードが実行される" in refused.value.text.ja
