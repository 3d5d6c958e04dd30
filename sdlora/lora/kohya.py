"""The file that a training writes: live adapters in kohya's names, and back into live adapters."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from sdlora.files import write_bytes
from sdlora.lora import canonical
from sdlora.lora.formats import kohya_bytes
from sdlora.lora.inject import Adapters
from sdlora.lora.layers import DTYPES, Layer, Lora, in_order, refuse_not_finite
from sdlora.lora.metadata import About, metadata
from sdlora.lora.names import canonical as canonical_path
from sdlora.lora.read import read


def lora_of(adapters: Adapters, alpha: float, family: str) -> Lora:
    """The adapters as they are now, in fp32."""
    matrices = adapters.matrices()
    layers = [
        Layer(
            part,
            canonical_path(part, path),
            matrices[f"{part}.{path}.lora_A"].data,
            matrices[f"{part}.{path}.lora_B"].data,
            alpha,
        )
        for part, paths in adapters.parts.items()
        for path in paths
    ]
    return Lora(in_order(layers), family, {})


def write(path: Path, adapters: Adapters, family: str, about: About, dtype: str) -> str:
    """Write the file by the canonical writer. Returns its sha256.

    Raises:
        Diverged: a weight is not finite, or does not fit the dtype.
    """
    lora = lora_of(adapters, float(about.settings["lora.alpha"]), family).cast(DTYPES[dtype])
    refuse_not_finite(lora.layers)
    serialized = kohya_bytes(Lora(lora.layers, family, metadata(about)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, serialized)
    return canonical.sha256(serialized)


def read_into(path: Path, adapters: Adapters) -> dict[str, Tensor]:
    """A file written by `write`, back as the names that `Adapters.load` takes."""
    layers = {(layer.part, layer.path): layer for layer in read(path).layers}
    found: dict[str, Tensor] = {}
    for part, paths in adapters.parts.items():
        for inner in paths:
            layer = layers[part, canonical_path(part, inner)]
            found[f"{part}.{inner}.lora_A"], found[f"{part}.{inner}.lora_B"] = layer.down, layer.up
    return found
