"""How a setting is declared: its default, what it is called, what it does, what it may be."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sdlora.text import Text


def setting(default: Any, label: Text, help: Text, *, first: bool = False, **limits: Any) -> Any:
    """Declare one setting. `first` puts it on the first level of the form; `limits` are pydantic's (ge, le, max_length)."""
    return Field(default, json_schema_extra={"label": label, "help": help, "first": first}, **limits)  # type: ignore[dict-item]


class Section(BaseModel):
    # strict: 3.7 is no integer and True is no number, which Gradio's own components let through.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
