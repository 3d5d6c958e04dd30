"""One process that times training steps on a random UNet of Stable Diffusion 1.5's size: `python -m bench.step ours|floor`.

*ours* is `sdlora.train.loop`, with cached latents and texts. *floor* is what nobody can do without: the same UNet forward,
backward to the same adapters, and nothing else. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from sdlora import config
from sdlora.adapters.inject import inject
from sdlora.adapters.spec import AdapterConfig
from sdlora.families import FAMILIES
from sdlora.families.base_model import Base
from sdlora.families.conditioning import Conditioning
from sdlora.models.precision import default_device, resolve_dtype
from sdlora.train.latents import CaptionedImage, Latent, TrainingItem
from sdlora.train.loop import train
from sdlora.train.trainer import Trainer

PICTURES, LATENT, TEXT = 24, (4, 32, 32), (77, 768)  # 256 px


def random_unet(dtype: torch.dtype) -> UNet2DConditionModel:
    """859.5 million parameters; small ones, so that nothing overflows."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    unet = unet.to(dtype).to_empty(device="cpu")
    torch.manual_seed(0)
    for name, p in unet.named_parameters():
        torch.nn.init.ones_(p) if "norm" in name and name.endswith("weight") else torch.nn.init.normal_(p, std=0.02)
    return unet.requires_grad_(False).eval()


def base_around(unet: UNet2DConditionModel, dtype: torch.dtype) -> Base:
    """The parts of a base that a step with cached latents and texts needs."""
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").config
    missing: Any = None
    return Base(
        path=missing,
        family=FAMILIES["sd1"],
        prediction="epsilon",
        resolution=256,
        factor=8,
        tokenizers={},
        parts={"unet": unet},
        vae=missing,
        scheduler=dict(scheduler),
        zero_empty=False,
        device=default_device(),
        dtype=dtype,
    )


def random_item(caption: str) -> TrainingItem:
    latent = Latent(torch.randn(LATENT), torch.randn(LATENT), (256, 256, 0, 0, 256, 256))
    image = CaptionedImage(Path(caption), caption, 256, 256, caption)
    return TrainingItem(image, caption, (256, 256), LATENT, lambda: latent)


def ours(unet: UNet2DConditionModel, dtype: torch.dtype, steps: int) -> list[float]:
    """Seconds of each step of the real training loop."""
    adapters = inject({"unet": unet}, FAMILIES["sdxl"].lora, AdapterConfig(16, 16.0, "attention"), seed=0)
    items = [random_item(str(k)) for k in range(PICTURES)]
    texts = {c: Conditioning({"prompt_embeds": torch.randn(TEXT).to(dtype)}) for c in ["", *map(str, range(PICTURES))]}
    settings = config.from_values({"train.steps": steps, "train.unet_lr": 1e-4})
    trainer = Trainer(base_around(unet, dtype), adapters, items, texts, settings)
    unet.train()
    times: list[float] = []
    train(trainer, lambda event: times.append(event.seconds), lambda: False, lambda step: None)  # type: ignore[union-attr]
    return times


def floor(unet: UNet2DConditionModel, dtype: torch.dtype, steps: int) -> list[float]:
    """Seconds of forward and backward alone."""
    inject({"unet": unet}, FAMILIES["sdxl"].lora, AdapterConfig(16, 16.0, "attention"), seed=0)
    x, text, t = torch.randn(1, *LATENT, dtype=dtype), torch.randn(1, *TEXT, dtype=dtype), torch.tensor([500])
    times = []
    for _ in range(steps):
        began = time.monotonic()
        unet(x, t, encoder_hidden_states=text, return_dict=False)[0].float().square().mean().backward()
        times.append(time.monotonic() - began)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["ours", "floor"])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    options = parser.parse_args()
    dtype = resolve_dtype(options.precision, default_device(), 860_000_000)
    times = {"ours": ours, "floor": floor}[options.what](random_unet(dtype), dtype, options.steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"what": options.what, "dtype": str(dtype), "seconds": times[1:], "peak_bytes": peak}))


if __name__ == "__main__":
    main()
