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
from sdlora.core.files import write_json
from sdlora.core.safetensors_io.writer import write_streamed
from sdlora.core.text import Text
from sdlora.families import parts
from sdlora.families.spec import canonical_path, is_text_encoder, tokenizer_of
from sdlora.models.checkpoint import checkpoint_configs, read_checkpoint
from sdlora.models.checkpoint_modules import checkpoint_tensors
from sdlora.models.folder import family_of_folder, read_configs, variant_of, weight_files, weights_name
from sdlora.models.tokenizer import find_tokenizer

Weights = dict[str, dict[str, Tensor]]  # part -> name (text encoders with `text_model.`) -> tensor
Change = Callable[[str, str, Tensor], Tensor]  # (part, name, weight) -> weight


def open_weights(base: Path) -> Weights:
    """Denoiser and text encoders of a folder or a single file."""
    names = parts()
    if base.is_file():
        found = checkpoint_tensors(read_checkpoint(base))
        return {part: weights for part, weights in found.items() if part in names}
    weights: Weights = {}
    for file in weight_files(base):
        part = file.parent.name
        if part in names:
            weights.setdefault(part, {}).update({canonical_path(part, k): v for k, v in load_file(file).items()})
    return weights


def family_and_prediction(base: Path) -> tuple[str, str]:
    """The family's name, and what the denoiser predicts: `epsilon` or `v_prediction`.

    Raises:
        BaseUnusable: the base is of no family here.
    """
    if base.is_file():
        checkpoint = read_checkpoint(base)
        return checkpoint.family.name, checkpoint.prediction
    configs = read_configs(base)
    family = family_of_folder(configs, base.name)
    return family.name, family.prediction(configs)


def write_modified_base(base: Path, out: Path, change: Change, on_progress: Callable[[int, int], None]) -> None:
    """`base` with changed denoiser and text encoders as a diffusers folder; text encoders' names as every reader knows them.

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
    out.mkdir(parents=True, exist_ok=True)
    try:
        _write(base, weights, out, change, on_progress)
    except BaseException:  # also when stopped: half a base must not be taken for one
        shutil.rmtree(out)
        raise


def _write(base: Path, weights: Weights, out: Path, change: Change, on_progress: Callable[[int, int], None]) -> None:
    total, done = sum(len(part) for part in weights.values()), 0
    _write_rest(base, out)
    for part, tensors in weights.items():
        (out / part).mkdir(exist_ok=True)

        def changed(name: str, part: str = part, tensors: dict[str, Tensor] = tensors) -> Tensor:
            nonlocal done
            done += 1
            on_progress(done, total)
            return change(part, name, tensors[name])

        write_streamed(out / part / weights_name(part), tensors, changed)


def _write_rest(base: Path, out: Path) -> None:
    """Everything but the weights of denoiser and text encoders."""
    if base.is_dir():
        for file in sorted(base.rglob("*")):
            inner = file.relative_to(base)
            weights = inner.parts[0] in parts() and file.name.endswith((".safetensors", ".bin", ".index.json"))
            if file.is_file() and not weights and file.suffix in (".json", ".txt", ".safetensors"):
                (out / inner).parent.mkdir(parents=True, exist_ok=True)
                # Of a base that is there in fp16 only; beside denoiser and text encoders in plain names, diffusers would not find it.
                only = variant_of(base, inner.parts[0]) if file.suffix == ".safetensors" else None
                shutil.copyfile(file, out / inner.with_name(file.name.replace(f".{only}.", ".") if only else file.name))
        return
    checkpoint = read_checkpoint(base)
    family, configs = checkpoint.family, checkpoint_configs(checkpoint)
    index: dict[str, Any] = {"_class_name": family.pipeline}
    index |= {"force_zeros_for_empty_prompt": True} if family.zero_empty_text else {"safety_checker": [None, None]}
    classes = {part: name.split(".") for part, name in family.classes.items()}
    index |= classes | {"scheduler": ["diffusers", configs["scheduler"]["_class_name"]]}
    for part, config in configs.items():
        more = {"architectures": classes[part][1:], "model_type": "clip_text_model"} if is_text_encoder(part) else {}
        (out / part).mkdir(exist_ok=True)
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        write_json(out / part / name, config | more)
    for part in family.text_encoders:
        tokenizer = find_tokenizer(base, configs[part], checkpoint.layout.padding.get(part))
        tokenizer.save_pretrained(out / tokenizer_of(part))
    (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    vae = checkpoint_tensors(checkpoint)["vae"]
    write_streamed(out / "vae" / weights_name("vae"), vae, vae.__getitem__)
