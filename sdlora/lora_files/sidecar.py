"""The `name.json` beside a LoRA that Forge and A1111 read: trigger words, strength, version, notes. Told from the file's own metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdlora.families import detect_lora


def sidecar(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Their keys as they spell them; a preferred weight of 0 means that none is known."""
    found = dict(metadata)
    family = detect_lora([], found)
    base, rank = found.get("ss_sd_model_name", ""), found.get("ss_network_dim", "")
    notes = [found.get("modelspec.usage_hint", ""), f"Trained on {base} at rank {rank}." if base and rank else ""]
    return {
        "description": found.get("modelspec.description", ""),
        "sd version": family.metadata.sidecar if family else "Unknown",
        "activation text": found.get("modelspec.trigger_phrase", ""),
        "preferred weight": float(found.get("sdlora.recommended_strength", 0)),
        "negative text": "",
        "notes": " ".join(note for note in notes if note),
    }
