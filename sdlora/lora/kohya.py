"""The LoRA file that everybody reads: kohya's names, written from live adapters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from sdlora.errors import Diverged
from sdlora.files import write_bytes
from sdlora.lora import canonical
from sdlora.lora.inject import Adapters
from sdlora.lora.metadata import About, metadata
from sdlora.text import Text

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def module_name(part: str, path: str, prefix: str) -> str:
    """`lora_unet_…` or `<prefix>_text_model_…` (the prefix is the family's) with the module path's dots as underscores.

    transformers 5.6 dropped `text_model.` from CLIPTextModel's paths; every published file has it.
    """
    if part == "unet":
        return "lora_unet_" + path.replace(".", "_")
    path = path if path.startswith("text_model.") else f"text_model.{path}"
    return f"{prefix}_{path.replace('.', '_')}"


def tensors(adapters: Adapters, alpha: float, prefix: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """`lora_down` (rank, in), `lora_up` (out, rank) and a 0-dimensional `alpha` for each layer.

    Raises:
        Diverged: a weight is not finite, or does not fit the dtype.
    """
    found: dict[str, Tensor] = {}
    matrices = adapters.matrices()
    for part, layers in adapters.parts.items():
        for path in layers:
            name = module_name(part, path, prefix)
            found[f"{name}.lora_down.weight"] = matrices[f"{part}.{path}.lora_A"].data.to(dtype)
            found[f"{name}.lora_up.weight"] = matrices[f"{part}.{path}.lora_B"].data.to(dtype)
            found[f"{name}.alpha"] = torch.tensor(alpha, dtype=dtype)
    _refuse_not_finite(found)
    return found


def _refuse_not_finite(found: Mapping[str, Tensor]) -> None:
    bad = [name for name, tensor in found.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise Diverged(
            Text(
                f"{len(bad)} of {len(found)} weights are not finite ({bad[0]}), so no file was written. Lower the learning rate, or export as fp32.",
                f"{len(found)} 個中 {len(bad)} 個の重みが有限値ではないため({bad[0]})、ファイルを書き出しませんでした。学習率を下げるか fp32 で保存してください。",
            )
        )


def write(path: Path, adapters: Adapters, prefix: str, about: About, dtype: str) -> str:
    """Write the file by the canonical writer. Returns its sha256."""
    content = tensors(adapters, float(about.settings["lora.alpha"]), prefix, _DTYPES[dtype])
    data = canonical.data_of(canonical.to_bytes(content))
    serialized = canonical.to_bytes(content, metadata(about, data))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, serialized)
    return canonical.sha256(serialized)


def read_into(path: Path, adapters: Adapters, prefix: str) -> dict[str, Tensor]:
    """A file written by `write`, back as the names that `Adapters.load` takes."""
    content = load_file(path)
    found: dict[str, Tensor] = {}
    for part, layers in adapters.parts.items():
        for module in layers:
            name = module_name(part, module, prefix)
            found[f"{part}.{module}.lora_A"] = content[f"{name}.lora_down.weight"]
            found[f"{part}.{module}.lora_B"] = content[f"{name}.lora_up.weight"]
    return found
