"""What a base draws for prompts: many pictures at once, with or without a LoRA, through diffusers' own pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

STEPS, GUIDANCE = 25, 2.0
BATCH = 24


def pipeline(folder: Path, lora: Path | None = None, strength: float = 1.0) -> StableDiffusionPipeline:
    """The exported base; at strength 0 a LoRA is loaded all the same, so that 0 is measured and not assumed."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    if lora is not None:
        pipe.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name="measured_lora")
        pipe.set_adapters(["measured_lora"], strength)
    return pipe


@torch.no_grad()
def sample(pipe: StableDiffusionPipeline, prompts: list[str], seed: int = 0, guidance: float = GUIDANCE) -> np.ndarray:
    """uint8 RGB (N, 64, 64, 3), one a prompt; picture i has the seed `seed + i`, whatever its neighbours."""
    done = []
    for first in range(0, len(prompts), BATCH):
        part = prompts[first : first + BATCH]
        rng = [torch.Generator().manual_seed(seed + first + i) for i in range(len(part))]
        images = pipe(part, num_inference_steps=STEPS, guidance_scale=guidance, generator=rng, output_type="np").images
        done.append(np.rint(images * 255).astype(np.uint8))
    return np.concatenate(done)
