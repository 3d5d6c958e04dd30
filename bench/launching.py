"""Processor time of a training pass where arithmetic costs nothing: `python -m bench.launching [sd1|sdxl]`.

The families' real layer counts, 32 wide, on one thread: what is left is Python and the starting of kernels, which a fast card waits
for. Forward and backward through adapters on attention: PEFT's own layers, ours one by one, ours fused; medians of interleaved passes.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer

from sdlora.adapters.fused_attention import fuse
from sdlora.adapters.kind_spec import ADAPTER
from sdlora.adapters.lora_layers import use_own_forward

WIDTH, SIDE, TOKENS = 32, 16, 8
ATTENTION = r".*\.attn[12]\.(to_q|to_k|to_v|to_out\.0)"
CONFIGS: dict[str, dict[str, Any]] = {
    "sd1": {"block_out_channels": (WIDTH,) * 4, "attention_head_dim": 8},
    "sdxl": {
        "block_out_channels": (WIDTH,) * 3,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": 4,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + WIDTH,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", nargs="?", choices=tuple(CONFIGS), default="sdxl")
    parser.add_argument("--passes", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    models = variants(options.family)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for number in range(options.passes + 2):
        for name, model in models.items():
            seconds = one_pass(model, options.family)
            if number >= 2:
                times[name].append(seconds)
    reference = 0.0
    for name, seconds_of in times.items():
        forward, backward = (1000 * statistics.median(s[k] for s in seconds_of) for k in (0, 1))
        reference = reference or forward + backward
        print(f"{name:11} {forward:6.1f} + {backward:6.1f} ms, {(forward + backward) / reference:.2f} of PEFT's")


def variants(family: str) -> dict[str, UNet2DConditionModel]:
    """The same UNet with the same adapters three times."""
    torch.manual_seed(0)
    config = {"sample_size": SIDE, "cross_attention_dim": WIDTH, "norm_num_groups": 8, **CONFIGS[family]}
    model = UNet2DConditionModel(**config).requires_grad_(False).train()
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=4, target_modules=ATTENTION), model, adapter_name=ADAPTER)
    layers, fused = copy.deepcopy(model), copy.deepcopy(model)
    for changed in (layers, fused):
        for module in changed.modules():
            if isinstance(module, LoraLayer):
                use_own_forward(module)
    fuse(fused)
    return {"PEFT": model, "one by one": layers, "fused": fused}


def one_pass(model: UNet2DConditionModel, family: str) -> tuple[float, float]:
    """Seconds of processor time forward and backward."""
    x, text = torch.ones(1, 4, SIDE, SIDE), torch.ones(1, TOKENS, WIDTH)
    added = {"text_embeds": torch.ones(1, WIDTH), "time_ids": torch.ones(1, 6)} if family == "sdxl" else None
    began = time.process_time()
    output = model(x, 10, encoder_hidden_states=text, added_cond_kwargs=added, return_dict=False)[0]
    middle = time.process_time()
    output.square().mean().backward()
    ended = time.process_time()
    for parameter in model.parameters():
        parameter.grad = None
    return middle - began, ended - middle


if __name__ == "__main__":
    main()
