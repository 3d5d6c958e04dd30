"""The product: one folder in diffusers layout, fp16, that StableDiffusionPipeline.from_pretrained loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextModel

from base.state import load_state
from base.unet import Denoiser, noise_schedule

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.30.0",
    "vae": ["diffusers", "AutoencoderKL"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
}


def export(vae: AutoencoderKL, denoiser: Denoiser, tokenizer: Path, folder: Path) -> None:
    """Write the whole folder beside `folder` and put it in its place at the end. The models are left as they are."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    (fresh / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n", encoding="utf-8")
    for name, model in {"vae": vae, "unet": denoiser.unet}.items():
        model.save_config(fresh / name)
        _weights(model, fresh / name / "diffusion_pytorch_model.safetensors")
    _text_encoder(denoiser.text, fresh / "text_encoder")
    shutil.copytree(tokenizer, fresh / "tokenizer")
    _scheduler(fresh / "scheduler")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _weights(model: nn.Module, path: Path, prefix: str = "") -> None:
    half = {prefix + n: t.detach().half().contiguous() for n, t in model.state_dict().items() if t.is_floating_point()}
    save_file(half, path, metadata={"format": "pt"})
    path.chmod(0o644)


def _text_encoder(text: CLIPTextModel, folder: Path) -> None:
    """Keys with `text_model.`, as published checkpoints have them: older and newer transformers both load these.

    `torch_dtype` says float32 although the file holds fp16: newer transformers load in the dtype that the config
    names, diffusers its own parts in fp32, and the two must agree.
    """
    folder.mkdir()
    config = text.config.to_dict() | {"architectures": ["CLIPTextModel"], "torch_dtype": "float32"}
    config.pop("dtype", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    bare = not any(n.startswith("text_model.") for n in text.state_dict())
    _weights(text, folder / "model.safetensors", "text_model." if bare else "")


def _scheduler(folder: Path) -> None:
    folder.mkdir()
    facts = dict(noise_schedule().config)
    keys = ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "clip_sample", "prediction_type")
    config = {"_class_name": "DDIMScheduler", "_diffusers_version": INDEX["_diffusers_version"]}
    config |= {key: facts[key] for key in keys}
    config |= {"steps_offset": 1, "set_alpha_to_one": False, "timestep_spacing": "leading"}
    (folder / "scheduler_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_trained(model: nn.Module, state: Path) -> dict:
    """Put a training state's weights into `model`; returns the state's facts.

    While the rate is high the average is better than the weights themselves; once the rate has fallen, the weights
    have settled and the average still remembers where they came from.
    """
    tensors, facts = load_state(state)
    kind = "model" if facts["decay"] > 0.5 else "average"
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(tensors[f"{kind}.{name}"])
    return facts


def load_exported(denoiser: Denoiser, folder: Path) -> None:
    """Put an exported base's text encoder and UNet into `denoiser`: to train on from what was shipped."""
    text = load_file(folder / "text_encoder" / "model.safetensors")
    if not any(n.startswith("text_model.") for n in denoiser.text.state_dict()):
        text = {n.removeprefix("text_model."): t for n, t in text.items()}
    missing, unknown = denoiser.text.load_state_dict(text, strict=False)
    if unknown or any(n in dict(denoiser.text.named_parameters()) for n in missing):
        raise SystemExit(f"{folder}: not this recipe's text encoder: {missing} {unknown}")
    denoiser.unet.load_state_dict(load_file(folder / "unet" / "diffusion_pytorch_model.safetensors"))


def newest(folder: Path) -> Path:
    """The decayed state of a stage where there is one, else the stable one."""
    final = folder / "final.safetensors"
    return final if final.exists() else folder / "stable.safetensors"


def load_vae(folder: Path) -> AutoencoderKL:
    """The VAE of an exported base, in fp32, ready to encode."""
    vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae"))
    weights = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    vae.load_state_dict({n: t.float() for n, t in weights.items()})
    return vae.eval()
