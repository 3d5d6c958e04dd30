"""What is asked of a drawing, checked: strength, prompt, seed, steps, guidance. For the screens Try it and Library."""

from __future__ import annotations

import math
from typing import Any

from sdlora import config
from sdlora.core.errors import BadInput
from sdlora.web import strings
from sdlora.web.form import coerce, with_labels

MIN_STRENGTH, MAX_STRENGTH = -1.0, 2.0
MAX_PROMPT = 2000  # letters


def checked_strength(value: Any) -> float:
    """Raises BadInput unless it is a number that the slider has."""
    if not isinstance(value, int | float) or not math.isfinite(value) or not MIN_STRENGTH <= value <= MAX_STRENGTH:
        raise BadInput(strings.preview.STRENGTH_REFUSED.fill(minimum=f"{MIN_STRENGTH:g}", maximum=f"{MAX_STRENGTH:g}"))
    return round(float(value), 2)


def checked_prompt(value: Any) -> str:
    """Raises BadInput for one that is too long."""
    prompt = str(value or "").strip()
    if len(prompt) > MAX_PROMPT:
        raise BadInput(strings.preview.PROMPT_REFUSED.fill(maximum=MAX_PROMPT))
    return prompt


def checked_numbers(values: dict[str, Any]) -> config.Config:
    """Raises BadInput for a number that the setting of this path refuses."""
    by_path = {s.path: s for s in config.settings()}
    try:
        return config.from_values({path: coerce(by_path[path], value) for path, value in values.items()})
    except BadInput as error:
        raise BadInput(with_labels(error.text)) from None
