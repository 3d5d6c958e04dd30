"""One process that trains on a random base of full size: `python -m bench.sizes sd1|sdxl --side 512 --steps 20`.

Every part is there in bf16: text encoders encode and are let go, the VAE encodes, the real loop makes real steps. Weights are
random, since speed and memory do not ask what they say. Prints one JSON object; `peak_bytes` is the process' largest resident
size, loading and encoding included.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from sdlora import config
from sdlora.core.events import Event, Stepped
from sdlora.families import FAMILIES
from sdlora.families.autoencoder import to_latents
from sdlora.families.base_model import Base
from sdlora.models.hub import BaseRef
from sdlora.models.precision import default_device
from sdlora.train.latents import CaptionedImage, Latent, TrainingItem
from sdlora.train.loop import train
from sdlora.train.setup import Folders, Request, Run, TrainingSet, prepare
from tests.tiny import make_tokenizer

PICTURES = 4
UNETS: dict[str, dict[str, Any]] = {
    "sd1": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    "sdxl": {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, 2, 10],
        "cross_attention_dim": 2048,
        "attention_head_dim": [5, 10, 20],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
# width, layers, heads
ENCODERS = {"text_encoder": (768, 12, 12), "text_encoder_2": (1280, 32, 20)}
KINDS = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
SCHEDULE = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def filled(make: Any, noise: torch.Tensor) -> Any:
    """A module in bf16 whose weights repeat one block of small noise: two billion draws would take longer than the steps."""
    with torch.device("meta"):
        module = make()
    module = module.to(torch.bfloat16).to_empty(device="cpu")
    for name, p in module.named_parameters():
        if "norm" in name and name.endswith("weight"):
            nn.init.ones_(p)
        else:
            for part in p.data.view(-1).split(len(noise)):
                part.copy_(noise[: len(part)])
    for name, buffer in module.named_buffers():
        if "position_ids" in name:
            buffer.copy_(torch.arange(buffer.numel()).view(buffer.shape))
    return module.eval().requires_grad_(False)


def random_base(family: str, folder: Path) -> Base:
    noise = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    parts: Any = {"unet": filled(lambda: UNet2DConditionModel(**UNETS[family]), noise)}
    for part in FAMILIES[family].text_encoders:
        width, layers, heads = ENCODERS[part]
        clip = CLIPTextConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            projection_dim=width,
            vocab_size=49408,
        )
        parts[part] = filled(lambda kind=KINDS[part], clip=clip: kind(clip), noise)
    return Base(
        path=folder,
        family=FAMILIES[family],
        prediction="epsilon",
        resolution=8 * UNETS[family]["sample_size"],
        factor=8,
        tokenizers={part: make_tokenizer(folder / part, length=77) for part in FAMILIES[family].text_encoders},
        parts=parts,
        vae=filled(lambda: AutoencoderKL(**VAE), noise),
        scheduler=SCHEDULE,
        zero_empty=FAMILIES[family].zero_empty_text,
        device=default_device(),
        dtype=torch.bfloat16,
    )


def random_item(image: CaptionedImage, x: torch.Tensor) -> TrainingItem:
    side = image.width
    latent = Latent(x, x.flip(-1), (side, side, 0, 0, side, side))
    return TrainingItem(image, image.caption, (side, side), tuple(x.shape), lambda: latent)


def ready(family: str, side: int, steps: int, rank: int, folder: Path) -> Run:
    base = random_base(family, folder)
    pictures = [CaptionedImage(folder / f"{k}.png", "", side, side, f"picture {k}") for k in range(PICTURES)]
    pixels = torch.rand(PICTURES, 3, side, side) * 2 - 1
    with torch.no_grad():
        items = [
            random_item(image, to_latents(base.vae, p[None])[0]) for image, p in zip(pictures, pixels, strict=True)
        ]
    settings = config.from_values(
        {
            "train.steps": steps,
            "lora.rank": rank,
            "lora.alpha": float(rank),
            "lora.targets": "attention",
            "train.gradient_checkpointing": True,
            "data.held_out": 0.0,
        }
    )
    base.denoiser.enable_gradient_checkpointing()
    request = Request("random", 0.0, BaseRef("random", "random", folder), "", settings, pictures, {})
    folders = Folders(*[folder] * 5)
    return prepare(request, base, TrainingSet(items), folders, lambda event: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", choices=sorted(UNETS))
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rank", type=int, default=16)
    options = parser.parse_args()
    seconds: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, Stepped):
            seconds.append(round(event.seconds, 1))

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = ready(options.family, options.side, options.steps, options.rank, Path(folder))
        before = time.monotonic() - began
        train(run.trainer, note, lambda: False, lambda step: None)
    moved = sum(bool(p.any()) for name, p in run.trainer.adapters.named_parameters().items() if name.endswith("lora_B"))
    found = {
        "family": options.family,
        "side": options.side,
        "parameters": sum(p.numel() for n, p in run.trainer.base.denoiser.named_parameters() if "lora_" not in n),
        "adapter_parameters": run.trainer.adapters.parameter_count(),
        "layers_moved": moved,
        "seconds_before": round(before, 1),
        "seconds": seconds,
        "threads": torch.get_num_threads(),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
