"""What the web process asks the previewer for: a frozen request that both ends read from the same JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PreviewRequest:
    """What decides the pixels of a preview. `lora` None: the base alone."""

    base: str
    lora: Path | None
    prompt: str
    negative: str
    seed: int
    steps: int
    guidance: float
    strength: float

    @property
    def name(self) -> str:
        """40 hex digits, equal for equal requests; a LoRA file that was written anew gives others."""
        facts = self.lora.stat() if self.lora else None
        content = [str(v) for v in asdict(self).values()]
        content += [str(facts.st_size), str(facts.st_mtime_ns)] if facts else []
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:40]


@dataclass(frozen=True)
class PreviewJob:
    """One request on its way to the previewer: `id` comes back with each answer, `out` is the PNG file to write."""

    id: str
    request: PreviewRequest
    out: Path

    def to_json(self) -> dict[str, Any]:
        """Flat: `{"id", "base", "lora", "prompt", "negative", "seed", "steps", "guidance", "strength", "out"}`."""
        request = {**asdict(self.request), "lora": str(self.request.lora) if self.request.lora else None}
        return {"id": self.id, **request, "out": str(self.out)}

    @classmethod
    def from_json(cls, message: dict[str, Any]) -> PreviewJob:
        """The inverse. Raises KeyError where a field is missing."""
        values = {field.name: message[field.name] for field in fields(PreviewRequest)}
        lora = Path(message["lora"]) if message["lora"] else None
        return cls(message["id"], PreviewRequest(**{**values, "lora": lora}), Path(message["out"]))
