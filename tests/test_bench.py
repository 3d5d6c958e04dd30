"""The benches of full-size models still run: here on tiny ones, for one or two steps."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from bench import sizes, step

BLOCKS: dict[str, Any] = {
    "block_out_channels": (16, 32),
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}


def test_sizes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sizes, "UNETS", {"sd1": {**BLOCKS, "sample_size": 16, "cross_attention_dim": 32}})
    monkeypatch.setattr(sizes, "ENCODERS", {"text_encoder": (32, 2, 2)})
    small = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1}
    monkeypatch.setattr(sizes, "VAE", sizes.VAE | small)
    monkeypatch.setattr(sys, "argv", ["sizes", "sd1", "--side", "64", "--steps", "2", "--rank", "2"])
    sizes.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(found["seconds"]) == 2
    assert found["layers_moved"] > 0
    assert found["adapter_parameters"] < found["parameters"]


@pytest.mark.parametrize("what", ["ours", "floor"])
def test_step(what: str) -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**BLOCKS, cross_attention_dim=768).requires_grad_(False)
    times = getattr(step, what)(unet, torch.float32, 2)
    assert len(times) == 2
