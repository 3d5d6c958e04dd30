"""How a setting is declared: its default, what it is called, what it does, what it may be."""

from __future__ import annotations

import unicodedata
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from sdlora.core.text import Text


def setting(default: Any, label: Text, help: Text, *, first: bool = False, **limits: Any) -> Any:
    """Declare one setting. `first` puts it on the first level of the form; `limits` are pydantic's (ge, le, max_length)."""
    return Field(default, json_schema_extra={"label": label, "help": help, "first": first}, **limits)  # type: ignore[dict-item]


class Section(BaseModel):
    # strict: 3.7 is no integer and True is no number, which Gradio's own components let through.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _is_plain(cls, value: Any, info: ValidationInfo) -> Any:
        """Texts are printed on terminals and stored as UTF-8: no control characters, no halves of letters. Prompts are lines."""
        text = value if isinstance(value, str) else ""
        text = text.replace("\n", "") if info.field_name == "prompts" else text
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
            raise ValueError
        return value
