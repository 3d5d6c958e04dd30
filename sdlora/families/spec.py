"""Facts of the model families, in one table: another family is one entry here and a loader beside `load` or `single_file`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sdlora.core.errors import BaseUnusable
from sdlora.core.text import Text

Part = Literal["unet", "text_encoder", "text_encoder_2"]  # what a LoRA can act on


@dataclass(frozen=True)
class FamilySpec:
    """What differs between families. The dicts are by prediction type."""

    name: str
    title: str
    text_encoders: tuple[Part, ...]  # parts, in the order in which the UNet reads their states side by side
    penultimate: bool  # the UNet reads the states before the last layer, else the last ones after the final norm
    conditions: bool  # the UNet is also told the pooled text of the last encoder, and sizes and crop of the picture
    pipeline: str  # diffusers' class that draws
    architecture: dict[str, str]  # modelspec.architecture
    base_version: dict[str, str]  # ss_base_model_version
    v2: bool  # ss_v2

    @property
    def parts(self) -> tuple[Part, ...]:
        return ("unet", *self.text_encoders)


FAMILIES = {
    "sd1": FamilySpec(
        name="sd1",
        title="Stable Diffusion 1.x",
        text_encoders=("text_encoder",),
        penultimate=False,
        conditions=False,
        pipeline="StableDiffusionPipeline",
        architecture={"epsilon": "stable-diffusion-v1/lora", "v_prediction": "stable-diffusion-v1/lora"},
        base_version={"epsilon": "sd_v1", "v_prediction": "sd_v1"},
        v2=False,
    ),
    "sd2": FamilySpec(
        name="sd2",
        title="Stable Diffusion 2.x",
        text_encoders=("text_encoder",),
        penultimate=False,  # in diffusers' layout the last layer is left out already
        conditions=False,
        pipeline="StableDiffusionPipeline",
        architecture={"epsilon": "stable-diffusion-v2-512/lora", "v_prediction": "stable-diffusion-v2-768-v/lora"},
        base_version={"epsilon": "sd_v2", "v_prediction": "sd_v2_v"},
        v2=True,
    ),
    "sdxl": FamilySpec(
        name="sdxl",
        title="Stable Diffusion XL",
        text_encoders=("text_encoder", "text_encoder_2"),
        penultimate=True,
        conditions=True,
        pipeline="StableDiffusionXLPipeline",
        architecture={
            "epsilon": "stable-diffusion-xl-v1-base/lora",
            "v_prediction": "stable-diffusion-xl-v1-base/lora",
        },
        base_version={"epsilon": "sdxl_base_v1-0", "v_prediction": "sdxl_base_v1-0"},
        v2=False,
    ),
}


def detect_family(unet: dict[str, Any]) -> FamilySpec:
    """The family by the UNet's config: SDXL has added conditions, SD 2.x linear projections where SD 1.x has convolutions.

    Raises:
        BaseUnusable: a UNet with conditions that no family here has.
    """
    added = unet.get("addition_embed_type")
    if added == "text_time":
        # The refiner has one text encoder and an aesthetic score in place of the crop.
        return get_family("sdxl-refiner" if unet.get("cross_attention_dim") == 1280 else "sdxl")
    linear = unet.get("use_linear_projection", False)
    return get_family(str(added) if added else "sd2" if linear else "sd1")


def get_family(name: str) -> FamilySpec:
    """Raises BaseUnusable: no family of that name can be trained."""
    if name not in FAMILIES:
        titles = ", ".join(f.title for f in FAMILIES.values())
        raise BaseUnusable(
            Text(
                f"This base is of another kind ({name}), which cannot be trained. Use one of {titles}.",
                f"この種類の基礎モデル({name})は学習に対応していません。{titles} のいずれかを使ってください。",
            )
        )
    return FAMILIES[name]
