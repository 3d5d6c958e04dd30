"""Captions and prompts as the text encoder sees them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer


def tokenize(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Token ids, padded and cut to the tokenizer's own length: (B, T)."""
    return tokenizer(
        list(texts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids


def encode(text_encoder: CLIPTextModel, ids: Tensor) -> Tensor:
    """Last hidden states: (B, T, width). Gradients flow if the encoder has adapters and the caller allows them."""
    return text_encoder(ids.to(text_encoder.device)).last_hidden_state


@torch.no_grad()
def encode_once(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, texts: Sequence[str]) -> dict[str, Tensor]:
    """Each distinct text to its (T, width), one at a time so that no text depends on its neighbours in a batch."""
    return {t: encode(text_encoder, tokenize(tokenizer, [t]))[0] for t in dict.fromkeys(texts)}
