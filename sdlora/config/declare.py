"""The declaration of a setting: default, label, help and limits, as a pydantic field."""

from __future__ import annotations

import unicodedata
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from sdlora.core.text import Text


def setting(default: Any, label: Text, help: Text, *, basic: bool = False, **limits: Any) -> Any:
    """Declare one setting. `basic` puts it on the first level of the form; `limits` are pydantic's (ge, le, max_length)."""
    return Field(default, json_schema_extra={"label": label, "help": help, "basic": basic}, **limits)  # type: ignore[dict-item]


class Section(BaseModel):
    # strict: Gradio's components send 3.7 for an integer and True for a number.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _has_no_control_characters(cls, value: Any, info: ValidationInfo) -> Any:
        """Texts are printed on terminals and stored as UTF-8: no control characters, no lone surrogates. Prompts may have line feeds."""
        text = value if isinstance(value, str) else ""
        text = text.replace("\n", "") if info.field_name == "prompts" else text
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
            raise ValueError
        return value
