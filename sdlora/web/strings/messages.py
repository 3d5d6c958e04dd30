"""Strings of messages over the page."""

from __future__ import annotations

from sdlora.core.text import Text

REFUSED = Text("That did not work", "実行できませんでした")
UNEXPECTED = Text(
    "Something went wrong inside sdlora; nothing of yours was lost. Try again. If it happens again, the log in the terminal has the details.",
    "sdlora の内部で問題が起きました。データは失われていません。もう一度お試しください。繰り返す場合は、ターミナルのログに詳細があります。",
)
