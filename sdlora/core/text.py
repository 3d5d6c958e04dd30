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
        """Put values into both sentences, of a `Text` the one of the same language. Braces inside values are left alone."""

        def of(language: Language) -> dict[str, object]:
            return {name: value.say(language) if isinstance(value, Text) else value for name, value in values.items()}

        return Text(self.en.format(**of("en")), self.ja.format(**of("ja")))

    def __str__(self) -> str:
        return self.en
