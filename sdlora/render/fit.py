"""Whether a LoRA file is for a base, told by headers before anything is loaded. No torch."""

from __future__ import annotations

from pathlib import Path

from sdlora.lora_files.inspect import inspect_file, refuse_other_family
from sdlora.models.bases import facts, resolve_base


def refuse_unfit(file: Path, base_name: str) -> None:
    """Raises BadInput: no LoRA, or one for another family of models; BaseUnusable: no such base."""
    inspection, base = inspect_file(file, digest=False), resolve_base(base_name)
    known_facts = facts(base)
    if known_facts:
        refuse_other_family(file.name, inspection.family, known_facts.family, base.name)
