"""A loaded base model: its parts, and what they say about themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdlora.families.spec import FamilySpec, Part

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL


@dataclass(frozen=True)
class Base:
    """A loaded base: all weights frozen, in evaluation mode, on `device`."""

    path: Path  # the folder or file it came from
    family: FamilySpec
    prediction: str  # what the denoiser predicts: "epsilon", "v_prediction", …
    resolution: int  # pixels of a side that it was trained on
    factor: int  # pixels a latent stands for, along a side
    tokenizers: dict[Part, Any]  # by text encoder
    parts: dict[Part, Any]  # what a LoRA can act on: the denoiser, and the text encoders until `free_text_encoders`
    vae: AutoencoderKL
    scheduler: dict[str, Any]  # its configuration, as diffusers reads it
    zero_empty: bool  # no text is zeros, not the encoded empty string
    device: torch.device
    dtype: torch.dtype  # of denoiser and text encoders

    @property
    def denoiser(self) -> Any:
        return self.parts[self.family.denoiser]

    @property
    def size_unit(self) -> int:
        """Pixels that a picture's sides must be multiples of."""
        return self.family.size_unit({self.family.denoiser: self.denoiser.config, "vae": self.vae.config})

    @property
    def zero_snr(self) -> bool:
        """Whether the last noise level has no signal left (arXiv 2305.08891)."""
        return bool(self.scheduler.get("rescale_betas_zero_snr", False))

    def free_text_encoders(self) -> None:
        """Give their memory back, once every text that will be needed is encoded. They cannot be used any more."""
        for part in self.family.text_encoders:
            self.parts.pop(part, None)
