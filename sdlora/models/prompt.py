"""Captions and prompts as the denoiser is given them: encoded by the family, zeros for no text where the base takes it so."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sdlora.families.base_model import Base
from sdlora.families.conditioning import Conditioning


def encode(base: Base, texts: Sequence[str]) -> Conditioning:
    """A batch of texts. Gradients flow if an encoder has adapters and the caller allows them.

    Where the base takes "no text" as zeros (`Base.zero_empty`), so is an empty caption: what guidance will subtract.
    """
    encoded = base.family.encode(base, texts)
    if not base.zero_empty or all(texts):
        return encoded
    return encoded.keep(torch.tensor([float(bool(text)) for text in texts]))


@torch.no_grad()
def encode_unique(base: Base, texts: Sequence[str], kept_on: torch.device) -> dict[str, Conditioning]:
    """Each distinct text, one at a time so that no text depends on its neighbours in a batch; kept on that device."""
    return {text: encode(base, [text])[0].to(kept_on) for text in dict.fromkeys(texts)}
