"""A base's weights by name, without building its models; and a changed base written as a diffusers folder, tensor by tensor.

Tensors stay in mapped files until they are used, so a base of 7 GB can be read, compared and rewritten in little memory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from sdlora.core.errors import BadInput
from sdlora.core.files import read_json, write_json
from sdlora.core.safetensors_io.writer import write_streamed
from sdlora.core.text import Text
from sdlora.models import checkpoint, checkpoint_modules
from sdlora.models.bases import weight_files
from sdlora.models.tokenizer import find_tokenizer

PARTS = ("unet", "text_encoder", "text_encoder_2")
Weights = dict[str, dict[str, Tensor]]  # part -> name (text encoders with `text_model.`) -> tensor
Change = Callable[[str, str, Tensor], Tensor]  # (part, name, weight) -> weight
_FILES = {"unet": "diffusion_pytorch_model.safetensors", "vae": "diffusion_pytorch_model.safetensors"}
_CLASSES = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}


def open_weights(base: Path) -> Weights:
    """UNet and text encoders of a folder or a single file."""
    if base.is_file():
        found = checkpoint_modules.tensors(checkpoint.read_checkpoint(base))
        return {part: weights for part, weights in found.items() if part in PARTS}
    parts: Weights = {}
    for file in weight_files(base):
        if file.parent.name in PARTS:
            part = parts.setdefault(file.parent.name, {})
            part |= {_canonical(file.parent.name, k): v for k, v in load_file(file).items()}
    return parts


def _canonical(part: str, name: str) -> str:
    return name if part == "unet" or name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}"


def family_and_prediction(base: Path) -> tuple[str, str]:
    """`sd1`, `sd2` or `sdxl`, whether it can be trained or not, and what it predicts: `epsilon` or `v_prediction`."""
    if base.is_file():
        found = checkpoint.read_checkpoint(base)
        return found.family, found.prediction
    unet, scheduler = read_json(base / "unet/config.json"), read_json(base / "scheduler/scheduler_config.json")
    wide = unet.get("cross_attention_dim") == 1024
    family = "sdxl" if unet.get("addition_embed_type") else "sd2" if wide else "sd1"
    return family, scheduler.get("prediction_type", "epsilon")


def write_modified_base(base: Path, out: Path, change: Change, on_progress: Callable[[int, int], None]) -> None:
    """`base` with changed UNet and text encoders as a diffusers folder; text encoders' names as every reader knows them.

    Raises:
        BadInput: `out` is not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(
            Text(
                f"{out} is there already. Give a folder that does not exist yet.",
                f"{out} はすでに存在します。存在しないフォルダーを指定してください。",
            )
        )
    weights = open_weights(base)
    total, done = sum(len(part) for part in weights.values()), 0
    out.mkdir(parents=True, exist_ok=True)
    _write_rest(base, out)
    for part, tensors in weights.items():
        (out / part).mkdir(exist_ok=True)

        def changed(name: str, part: str = part, tensors: dict[str, Tensor] = tensors) -> Tensor:
            nonlocal done
            done += 1
            on_progress(done, total)
            return change(part, name, tensors[name])

        write_streamed(out / part / _FILES.get(part, "model.safetensors"), tensors, changed)


def _write_rest(base: Path, out: Path) -> None:
    """Everything but the weights of UNet and text encoders."""
    if base.is_dir():
        for file in sorted(base.rglob("*")):
            inner = file.relative_to(base)
            weights = inner.parts[0] in PARTS and file.name.endswith((".safetensors", ".bin", ".index.json"))
            if file.is_file() and not weights and file.suffix in (".json", ".txt", ".safetensors"):
                (out / inner).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, out / inner)
        return
    found = checkpoint.read_checkpoint(base)
    configs = checkpoint.configs(found)
    index: dict[str, Any] = {"_class_name": "StableDiffusionPipeline", "safety_checker": [None, None]}
    if found.family == "sdxl":
        index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True}
    for part, config in configs.items():
        kind = _CLASSES.get(part) or config["_class_name"]
        index[part] = ["transformers" if part in _CLASSES else "diffusers", kind]
        more = {"architectures": [kind], "model_type": "clip_text_model"} if part in _CLASSES else {}
        (out / part).mkdir(exist_ok=True)
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        write_json(out / part / name, config | more)
    for part, _, open_clip in checkpoint.TEXT_ENCODERS[found.family]:
        tokenizer = find_tokenizer(base, configs[part], "!" if open_clip else None)
        tokenizer.save_pretrained(out / part.replace("text_encoder", "tokenizer"))
        index[part.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
    (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    vae = checkpoint_modules.tensors(found)["vae"]
    write_streamed(out / "vae" / _FILES["vae"], vae, vae.__getitem__)
