"""Captions and prompts as the UNet reads them: states of one or two text encoders, and SDXL's pooled text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from sdlora.models.load import Base


@dataclass(frozen=True)
class Embedding:
    """One text or a batch of them."""

    states: Tensor  # (T, width) or (B, T, width); the encoders' states side by side
    pooled: Tensor | None  # (width_2) or (B, width_2); None in families whose UNet does not ask for it

    def __getitem__(self, k: int) -> Embedding:
        """One text of a batch."""
        return Embedding(self.states[k], None if self.pooled is None else self.pooled[k])

    def zeros(self) -> Embedding:
        return Embedding(torch.zeros_like(self.states), None if self.pooled is None else torch.zeros_like(self.pooled))

    def batch(self) -> Embedding:
        """One text as a batch of one."""
        return Embedding(self.states[None], None if self.pooled is None else self.pooled[None])


def stack(embeddings: Sequence[Embedding]) -> Embedding:
    """Single texts as a batch."""
    pooled = [e.pooled for e in embeddings if e.pooled is not None]
    return Embedding(torch.stack([e.states for e in embeddings]), torch.stack(pooled) if pooled else None)


def tokenize(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Token ids, padded and cut to the tokenizer's own length: (B, T)."""
    return tokenizer(
        list(texts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids


def encode(base: Base, texts: Sequence[str]) -> Embedding:
    """A batch of texts. Gradients flow if an encoder has adapters and the caller allows them.

    Where the base takes "no text" as zeros (`Base.zero_empty`), so is an empty caption: what guidance will subtract.
    """
    states, pooled = [], None
    for part in base.family.text_encoders:
        encoder = base.parts[part]
        ids = tokenize(base.tokenizers[part], texts).to(base.device)
        said = encoder(ids, output_hidden_states=base.family.penultimate)
        states.append(said.hidden_states[-2] if base.family.penultimate else said.last_hidden_state)
        if base.family.conditions and hasattr(said, "text_embeds"):
            pooled = said.text_embeds
    found = Embedding(torch.cat(states, dim=-1), pooled)
    if not base.zero_empty or all(texts):
        return found
    there = torch.tensor([float(bool(t)) for t in texts], dtype=found.states.dtype, device=base.device)
    return Embedding(found.states * there[:, None, None], None if pooled is None else pooled * there[:, None])


@torch.no_grad()
def encode_unique(base: Base, texts: Sequence[str]) -> dict[str, Embedding]:
    """Each distinct text, one at a time so that no text depends on its neighbours in a batch."""
    return {t: encode(base, [t])[0] for t in dict.fromkeys(texts)}
