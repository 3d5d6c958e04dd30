"""How the page looks and what it does by itself in the browser: theme, style sheet, the little JavaScript there is."""

from __future__ import annotations

import json
from pathlib import Path

from gradio.themes import Base, Color

from sdlora.core.text import Language
from sdlora.web.strings import words

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

# A click or a change of an element that carries `data-do` becomes an event of the HTML component around it.
ACTIONS = """
const told = (e) => e.target.closest('[data-do]');
const kinds = {remove: 'delete', open: 'select', page: 'select', caption: 'input', example: 'example_select', rename: 'input',
  compare: 'select', cancel: 'stop', back: 'undo', empty: 'clear'};
const act = (at) => {
  window.picked = at.dataset.id;  // for what is done in the browser at once
  trigger(kinds[at.dataset.do], {...at.dataset});
};
// The text around a button may be exchanged while it is pressed: the browser then makes no click of it. So the button that
// was pressed is known by what it does, and letting go of one that does the same is enough.
const button = (e) => { const at = told(e); return at && at.tagName === 'BUTTON' && !at.disabled ? at : null; };
const named = (at) => at && JSON.stringify({...at.dataset});
let pressed = null, done = null;
element.addEventListener('keydown', () => { done = null; });
element.addEventListener('pointerdown', (e) => { done = null; pressed = e.button === 0 ? named(button(e)) : null; });
element.addEventListener('pointerup', (e) => {
  const at = button(e);
  if (at && pressed === named(at)) { done = pressed; act(at); }
  pressed = null;
});
element.addEventListener('click', (e) => {  // by keyboard or by a helper for reading
  const at = button(e);
  if (at && done !== named(at)) act(at);
  done = null;
});
element.addEventListener('change', (e) => {
  const at = told(e);
  if (!at || !['TEXTAREA', 'INPUT'].includes(at.tagName)) return;
  trigger(kinds[at.dataset.do], {...at.dataset, text: at.value});
  if (at.dataset.do === 'rename') {  // a refused name must not stay: the text around it does not change then
    at.value = at.defaultValue;
    at.blur();
  }
});
// A field that was typed into keeps what was typed when its text changes around it: show the new text, but not under the cursor.
watch('value', () => element.querySelectorAll('textarea, input').forEach((field) => {
  if (field !== document.activeElement) field.value = field.defaultValue;
}));
"""


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
        button_primary_background_fill_dark="*primary_500",
        button_primary_background_fill_hover_dark="*primary_400",
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
    """The sheet, and the words that stand where gradio has its own: in the drop zone and over messages."""
    own = {"drop": words.DROP, "drop-more": words.DROP_MORE, "refused": words.REFUSED}
    named = " ".join(f"--{name}: {json.dumps(text.say(language), ensure_ascii=False)};" for name, text in own.items())
    return f":root {{ {named} }}\n" + (STATIC / "page.css").read_text(encoding="utf-8")


def head(language: Language) -> str:
    """The first thing in <head>: gradio's own script reads the browser's language when it starts."""
    script = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in ("gradio_sse_fix.js", "page.js"))
    return f"{ICON}<script>const LANGUAGE = {json.dumps(language)};\n{script}</script>"
