"""A base in one `.safetensors` file, told from its header alone: family, prediction, configurations, shapes. No torch, no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdlora.core.errors import BadInput, BaseUnusable
from sdlora.core.safetensors_io.header import read_header
from sdlora.core.text import Text
from sdlora.families import FAMILIES
from sdlora.families.ldm_checkpoint import UNET, VAE
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
    """Raises BaseUnusable: no safetensors file, or no Stable Diffusion 1, 2 or XL with UNet, VAE and text encoder in it."""
    if file.suffix != ".safetensors":
        raise _unusable(
            file, "only .safetensors files are read, since other kinds can run code", "対応形式は .safetensors のみです"
        )
    try:
        header, metadata, _ = read_header(file)
    except BadInput as error:
        raise BaseUnusable(error.text) from None
    shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
    family, layout = _family(file, shapes)
    return Checkpoint(file, family, layout, layout.prediction(shapes, metadata), shapes)


def _family(file: Path, shapes: Shapes) -> tuple[FamilySpec, CheckpointLayout]:
    missing = [p for p in (UNET, VAE) if not any(name.startswith(p) for name in shapes)]
    layouts = [(family, family.checkpoint) for family in FAMILIES.values() if family.checkpoint]
    found = next(((family, layout) for family, layout in reversed(layouts) if layout.detect(shapes)), None)
    if missing or not found:
        names = ", ".join(missing) or "text encoder"
        raise _unusable(
            file,
            f"it is no whole Stable Diffusion 1, 2 or XL checkpoint ({names} missing)",
            f"SD 1・2・XL の完全なチェックポイントではありません({names} がありません)",
        )
    if shapes.get(UNET + "input_blocks.0.0.weight", (0, 4))[1] != 4:
        raise _unusable(file, "it is made for inpainting or editing", "インペイントまたは画像編集用のモデルです")
    if any(name.startswith("edm_") for name in shapes):  # CosXL, Playground 2.5: trained on noise by another formula
        raise _unusable(file, "it has EDM's noise schedule", "EDM 方式のノイズスケジュールを使うモデルです")
    return found


def configs(checkpoint: Checkpoint, prediction: str = "auto") -> dict[str, Config]:
    """The configurations of a diffusers folder: part -> config."""
    wanted = checkpoint.prediction if prediction == "auto" else prediction
    return checkpoint.layout.configs(checkpoint.shapes, wanted)


def diffusers_shapes(checkpoint: Checkpoint) -> dict[Part, Shapes]:
    """Part -> weight name as diffusers has it -> shape; of the denoiser and the text encoders."""
    return checkpoint.layout.shapes(checkpoint.shapes)


def _unusable(file: Path, en: str, ja: str) -> BaseUnusable:
    return BaseUnusable(
        Text(f"{file.name} cannot be used as a base: {en}.", f"{file.name} は基礎モデルとして使えません: {ja}。")
    )
