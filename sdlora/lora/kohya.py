"""The file that a training writes: live adapters in kohya's names, and back into live adapters."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from sdlora.files import write_bytes
from sdlora.lora import canonical, kinds
from sdlora.lora.formats import kohya_bytes, serialized
from sdlora.lora.inject import Adapters
from sdlora.lora.layers import DTYPES, Layer, Lora, in_order, refuse_not_finite, refuse_tensors
from sdlora.lora.metadata import About, lycoris_facts, metadata
from sdlora.lora.names import canonical as canonical_path
from sdlora.lora.read import read
from sdlora.lora.targets import PLAIN


def lora_of(adapters: Adapters, family: str) -> Lora:
    """Plain adapters as they are now, in fp32; all of one rank, since diffusers reads only one."""
    matrices, shape = adapters.matrices(), adapters.shape
    largest = max(shape.rank_of(part) for part in adapters.parts)
    layers = [
        Layer(
            part,
            canonical_path(part, path),
            matrices[f"{part}.{path}.lora_A"].data,
            matrices[f"{part}.{path}.lora_B"].data,
            shape.alpha_of(shape.rank_of(part)),
        ).padded(largest)
        for part, paths in adapters.parts.items()
        for path in paths
    ]
    return Lora(in_order(layers), family, {})


def write(path: Path, adapters: Adapters, family: str, about: About, dtype: str) -> str:
    """Write the file by the canonical writer. Returns its sha256.

    Raises:
        Diverged: a weight is not finite, or does not fit the dtype.
    """
    content = content_of(adapters, family, about, dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return canonical.sha256(content)


def content_of(adapters: Adapters, family: str, about: About, dtype: str) -> bytes:
    """The file's bytes. Raises as `write` does."""
    if adapters.shape.kind in PLAIN:
        lora = lora_of(adapters, family).cast(DTYPES[dtype])
        refuse_not_finite(lora.layers)
        return kohya_bytes(Lora(lora.layers, family, metadata(about)))
    tensors = kinds.tensors_of(adapters, family, DTYPES[dtype])
    refuse_tensors(tensors)
    return serialized(tensors, metadata(about) | lycoris_facts(adapters.shape))


def read_into(path: Path, adapters: Adapters, family: str) -> dict[str, Tensor]:
    """A file written by `write`, back as the names that `Adapters.load` takes."""
    if adapters.shape.kind not in PLAIN:
        return kinds.values_of(load_file(path), adapters, family)
    layers = {(layer.part, layer.path): layer for layer in read(path).layers}
    found: dict[str, Tensor] = {}
    for part, paths in adapters.parts.items():
        rank = adapters.shape.rank_of(part)
        for inner in paths:
            layer = layers[part, canonical_path(part, inner)]
            found[f"{part}.{inner}.lora_A"], found[f"{part}.{inner}.lora_B"] = layer.down[:rank], layer.up[:, :rank]
    return found
