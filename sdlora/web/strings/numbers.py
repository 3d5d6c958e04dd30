"""Strings of durations."""

from __future__ import annotations

from sdlora.core.text import Text

LEFT = Text("about {time} left", "残り約 {time}")
SECONDS = Text("{n} s", "{n} 秒")
MINUTES = Text("{n} min", "{n} 分")
HOURS = Text("{hours} h {minutes} min", "{hours} 時間 {minutes} 分")
