"""A base in one `.safetensors` file, told from its header alone: family, prediction, configurations, shapes. No torch, no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdlora.core.errors import BadInput, BaseUnusable
from sdlora.core.safetensors_io.header import read_header
from sdlora.core.text import Text
from sdlora.families import FAMILIES, refusals
from sdlora.families.spec import CheckpointLayout, Config, FamilySpec, Part, Shapes


@dataclass(frozen=True)
class Checkpoint:
    """What a file's header says. `shapes` are by the file's own names."""

    file: Path
    family: FamilySpec
    layout: CheckpointLayout
    prediction: str  # "epsilon" or "v_prediction"
    shapes: Shapes


def read_checkpoint(file: Path) -> Checkpoint:
    """Raises BaseUnusable: no safetensors file, or none that a family here reads as a whole base; says what it is instead."""
    if file.suffix != ".safetensors":
        only = Text(
            "only .safetensors files are read, since other kinds can run code", "対応形式は .safetensors のみです"
        )
        raise unusable(file.name, only)
    try:
        header, metadata, _ = read_header(file)
    except BadInput as error:
        raise BaseUnusable(error.text) from None
    shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
    layouts = [(family, family.checkpoint) for family in FAMILIES.values() if family.checkpoint]
    # Later families hold what earlier ones do and more.
    found = next(((family, layout) for family, layout in reversed(layouts) if layout.detect(shapes)), None)
    if not found:
        raise unusable(file.name, refusals.name_file(shapes))
    family, layout = found
    if fault := layout.fault(shapes):
        raise unusable(file.name, fault)
    checkpoint = Checkpoint(file, family, layout, layout.prediction(shapes, metadata), shapes)
    try:
        checkpoint_configs(checkpoint), checkpoint_shapes(checkpoint)
    except (KeyError, IndexError, ValueError) as error:
        raise unusable(file.name, refusals.DAMAGED) from error
    return checkpoint


def checkpoint_configs(checkpoint: Checkpoint, prediction: str = "auto") -> dict[str, Config]:
    """The configurations of a diffusers folder: part -> config."""
    wanted = checkpoint.prediction if prediction == "auto" else prediction
    return checkpoint.layout.configs(checkpoint.shapes, wanted)


def checkpoint_shapes(checkpoint: Checkpoint) -> dict[Part, Shapes]:
    """Part -> weight name as diffusers has it -> shape; of the denoiser and the text encoders."""
    return checkpoint.layout.shapes(checkpoint.shapes)


def unusable(name: str, reason: Text) -> BaseUnusable:
    """The refusal of a base; `reason` ends the sentence, and may go on with another that says what to do."""
    return BaseUnusable(
        Text(
            f"{name} cannot be used as a base: {reason.en}.",
            f"{name} は基礎モデルとして使えません: {reason.ja}。",
        )
    )
