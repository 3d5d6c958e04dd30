"""The same work for every trainer: a random base in Stable Diffusion 1.5's layout and a folder of captioned pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

PICTURES, SIDE, RANK = 24, 256, 16
Stored = Literal["fp32", "fp16", "bf16"]


def make_base(folder: Path, stored: Stored) -> Path:
    """859.5 M parameters of UNet, with VAE, text encoder and tokenizer, as a diffusers folder; kept if it is there already."""
    if (folder / "model_index.json").exists():
        return folder
    import torch
    from diffusers import StableDiffusionPipeline
    from diffusers.schedulers import DDIMScheduler

    from bench.sizes import SCHEDULE, random_base

    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[stored]
    half = folder.with_name(folder.name + ".part")
    base = random_base("sd1", half / "bytes")
    pipe = StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=base.parts["text_encoder"],
        tokenizer=base.tokenizers["text_encoder"],
        unet=base.denoiser,
        scheduler=DDIMScheduler.from_config(SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.to(dtype=dtype).save_pretrained(half)
    _name_as_published(half / "text_encoder/model.safetensors")
    _write_tokenizer(half)
    half.rename(folder)
    return folder


def _name_as_published(file: Path) -> None:
    """transformers 5.6 and newer writes names that older versions do not read; all of them read the old ones."""
    from safetensors.torch import load_file, save_file

    old = {f"text_model.{name.removeprefix('text_model.')}": t for name, t in load_file(file).items()}
    save_file(old, file, {"format": "pt"})


def _write_tokenizer(base: Path) -> None:
    """As transformers of any age reads it: as the base's own, and where sd-scripts looks for OpenAI's."""
    made, own = base / "bytes" / "text_encoder", base / "tokenizer"
    said = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    shutil.rmtree(own)
    made.rename(own)
    (own / "tokenizer_config.json").write_text(json.dumps(said))
    shutil.copytree(own, tokenizers(base) / "openai_clip-vit-large-patch14")
    shutil.rmtree(base / "bytes")


def tokenizers(base: Path) -> Path:
    return base / "tokenizers"


def draw_pictures(folder: Path) -> Path:
    """Smooth random pictures, each with its caption beside it and all captions in `metadata.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    chance, lines = np.random.default_rng(0), []
    for k in range(PICTURES):
        small = Image.fromarray(chance.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        name, caption = f"{k:02d}.png", f"a picture of number {k}"
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / name)
        (folder / name).with_suffix(".txt").write_text(caption)
        lines.append(json.dumps({"file_name": name, "text": caption}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder
