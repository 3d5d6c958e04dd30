"""A sentence in the two languages of the app: everything that a person reads on screen is a `Text`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "ja"]


@dataclass(frozen=True)
class Text:
    """The same sentence in English and Japanese; `{names}` in it are filled by `fill`."""

    en: str
    ja: str

    def say(self, language: Language = "en") -> str:
        return self.ja if language == "ja" else self.en

    def fill(self, **values: object) -> Text:
        """Put values into both sentences. Values are data: braces inside them are left alone."""
        return Text(self.en.format(**values), self.ja.format(**values))

    def __str__(self) -> str:
        return self.en
