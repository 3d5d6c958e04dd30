"""Theme, style sheet and JavaScript of the page."""

from __future__ import annotations

import json
from pathlib import Path

from gradio.themes import Base, Color

from sdlora.core.text import Language
from sdlora.web import strings

STATIC = Path(__file__).parent / "static"
FONT = [
    "system-ui", "-apple-system", "Segoe UI", "Roboto", "Hiragino Sans", "Hiragino Kaku Gothic ProN",
    "Noto Sans JP", "Noto Sans CJK JP", "Yu Gothic UI", "Meiryo", "sans-serif",
]  # fmt: skip
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Noto Sans Mono CJK JP", "monospace"]

GREEN = Color(
    "#eef7f3",
    "#d7ece4",
    "#b0d9ca",
    "#83c1ab",
    "#57a58b",
    "#3b8a71",
    "#2c705b",
    "#255a4a",
    "#20483c",
    "#1b3b32",
    "#0e211c",
)
STONE = Color(
    "#faf9f7",
    "#f3f1ed",
    "#e7e3dc",
    "#d4cec4",
    "#a59e92",
    "#78726a",
    "#5a554f",
    "#403d39",
    "#2a2927",
    "#1d1d1c",
    "#131313",
)

ICON = (
    "<link rel='icon' href=\"data:image/svg+xml,"
    "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' rx='9' fill='%232c705b'/%3E"
    "%3Cpath d='M10 8v16M15 16h9' stroke='white' stroke-width='4' stroke-linecap='round'/%3E%3C/svg%3E\">"
)


def theme() -> Base:
    """Gradio's own variables, in our colours. System fonts only: nothing is fetched."""
    return Base(primary_hue=GREEN, secondary_hue=GREEN, neutral_hue=STONE, font=FONT, font_mono=MONO).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="0px",
        block_shadow="none",
        block_padding="0",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_400",
        button_primary_background_fill_hover_dark="*primary_300",
        button_primary_text_color="white",
        button_primary_text_color_dark="*neutral_950",
        input_background_fill="white",
        input_background_fill_dark="*neutral_950",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_width="1px",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
    )


def style(language: Language) -> str:
    """The style sheet, with the words that replace gradio's own: in the drop zone and over messages."""
    own = {"drop": strings.pictures.DROP, "drop-more": strings.pictures.DROP_MORE, "refused": strings.messages.REFUSED}
    named = " ".join(f"--{name}: {json.dumps(text.say(language), ensure_ascii=False)};" for name, text in own.items())
    return f":root {{ {named} }}\n" + read("page.css")


def read(name: str) -> str:
    """The text of a file in `static/`."""
    return (STATIC / name).read_text(encoding="utf-8")


def actions(*events: str) -> str:
    """`js_on_load` of an HTML component: elements in it with `data-do=NAME` trigger its event NAME, if it is one of these."""
    return f"const EVENTS = {json.dumps(events)};\n{read('actions.js')}"


def head(language: Language) -> str:
    """The first thing in <head>: gradio's own script reads the browser's language when it starts."""
    return f"{ICON}<script>const LANGUAGE = {json.dumps(language)};\n{read('gradio_sse_fix.js')}\n{read('page.js')}</script>"
