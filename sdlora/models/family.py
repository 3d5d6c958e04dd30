"""Facts of the model families, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sdlora.errors import BaseUnusable
from sdlora.text import Text


@dataclass(frozen=True)
class Family:
    """What differs between families in files and metadata. The dicts are by prediction type."""

    name: str
    title: str
    architecture: dict[str, str]  # modelspec.architecture
    base_version: dict[str, str]  # ss_base_model_version
    v2: bool  # ss_v2


FAMILIES = {
    "sd1": Family(
        name="sd1",
        title="Stable Diffusion 1.x",
        architecture={"epsilon": "stable-diffusion-v1/lora", "v_prediction": "stable-diffusion-v1/lora"},
        base_version={"epsilon": "sd_v1", "v_prediction": "sd_v1"},
        v2=False,
    ),
    "sd2": Family(
        name="sd2",
        title="Stable Diffusion 2.x",
        architecture={"epsilon": "stable-diffusion-v2-512/lora", "v_prediction": "stable-diffusion-v2-768-v/lora"},
        base_version={"epsilon": "sd_v2", "v_prediction": "sd_v2_v"},
        v2=True,
    ),
}


def family_of(unet: dict[str, Any]) -> Family:
    """The family by the UNet's config: SD 2.x has 1024-wide text, SDXL has added conditions; other widths count as SD 1.x layout.

    Raises:
        BaseUnusable: a family that cannot be trained yet.
    """
    wide = unet.get("cross_attention_dim") == 1024
    return family_named("sdxl" if unet.get("addition_embed_type") else "sd2" if wide else "sd1")


def family_named(name: str) -> Family:
    """Raises BaseUnusable: a family that cannot be trained yet."""
    if name not in FAMILIES:
        raise BaseUnusable(
            Text(
                "This base needs added conditions (SDXL or newer), which cannot be trained yet. Use an SD 1.x or 2.x base.",
                "この基礎モデル(SDXL 以降)はまだ学習に対応していません。SD 1.x または 2.x のモデルを使ってください。",
            )
        )
    return FAMILIES[name]
