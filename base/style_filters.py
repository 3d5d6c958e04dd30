"""Further styles for the base to tell apart: the three sets' own icons, outlined, recoloured, cast and pasted.

With three styles only, a model may learn 3 x 229 pictures and no style: nothing tells it that a surface goes with every
name. Each style here has its own word in captions, draws on one set's build, and is shown on half of the names.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np

from base.augment import EDGE
from base.filters import (
    Filter,
    clay,
    drop_shadow,
    gradient_wash,
    multiply,
    nearest_ink,
    plain,
    posterise,
    rotate_channels,
    saturate,
    sticker,
    tint,
    tone_ramp,
    trace_edges,
)
from base.render import draw

OVERDRAW = 3  # drawn this many times larger, then reduced: smooth edges


@dataclass(frozen=True)
class Style:
    """One treatment: which set it draws on, what is done to the SVG (stroke, fill), what to the picture."""

    source: str
    treat: Filter
    stroke: str = ""
    width: float = 0.0  # of the stroke, as a share of the icon's edge
    fill: str = ""  # every filled shape gets this colour


STYLES: dict[str, Style] = {
    "ink": Style("noto", plain(), "#1a1a1a", 0.028),
    "comic": Style("twemoji", saturate(1.5), "#101018", 0.05),
    "outline": Style("fluent", plain(), "#222222", 0.03, "#ffffff"),
    "chalkboard": Style("twemoji", plain("#26382f"), "#e8e4d0", 0.03, "#26382f"),
    "pastel": Style("fluent", tint("#fff4f0", 0.55)),
    "sepia": Style("noto", tone_ramp("#2b1608", "#a8763e", "#f6e7c8", ground="#f6e7c8")),
    "duotone": Style("twemoji", tone_ramp("#2a1a5e", "#f0527a", "#ffd98a")),
    "handheld": Style("noto", posterise("#0f380f", "#306230", "#8bac0f", "#9bbc0f", ground="#9bbc0f")),
    "retro": Style(
        "fluent", nearest_ink("#2f2a26", "#c8452e", "#e9a23b", "#f3e3c0", "#3e8078", "#7a4a2f", ground="#f3e3c0")
    ),
    "stamp": Style("twemoji", posterise("#a81e2c", "#a81e2c", "#fbf3e6", ground="#fbf3e6")),
    "sticker": Style("noto", sticker("#ffffff", "#7fb2d9")),
    "cutout": Style("fluent", drop_shadow("#8a8378", 0.035, 0.035, "#efe6d5")),
    "pop": Style("twemoji", drop_shadow("#ff3d8b", 0.05, 0.03, "#ffe14a"), "#000000", 0.03),
    "clay": Style("twemoji", clay),
    "neon": Style("noto", trace_edges("#39ffd0", "#0b0b14", 0.25)),
    "pencil": Style("noto", trace_edges("#4a4a4a", "#fbfaf6", 0.15)),
    "night": Style("fluent", tint("#2a3f8f", 0.55, "#10152b")),
    "candy": Style("twemoji", rotate_channels()),
    "dawn": Style("fluent", gradient_wash("#ff8a5c", "#6a4fb0")),
    "mono": Style("fluent", saturate(0.0), "#000000", 0.02),
    "gold": Style("noto", tone_ramp("#3a2400", "#b8860b", "#ffe9a0"), "#3a2400", 0.02),
    "woodcut": Style("fluent", posterise("#1c1c1c", "#1c1c1c", "#d9c7a3", ground="#efe2c6"), "#1c1c1c", 0.04),
    "crayon": Style("fluent", saturate(1.4, "#fffdf2"), "#3355cc", 0.035),
    "vivid": Style("noto", saturate(1.7)),
    "muted": Style("twemoji", saturate(0.45)),
    "warm": Style("fluent", multiply("#ffdca0")),
    "cool": Style("noto", tint("#3f6fe0", 0.3)),
    "light": Style("twemoji", tint("#ffffff", 0.3), "#8a5a44", 0.015),
    "bold": Style("fluent", saturate(1.2), "#5a2d0c", 0.045),
    "velvet": Style("twemoji", tone_ramp("#12001f", "#7a0f4f", "#ff9fb0", ground="#2a0a2e")),
}


def names_for(word: str, names: list[str]) -> list[str]:
    """The half of the names that this style is taught on, always the same."""
    return [n for n in names if hashlib.sha256(f"{word} {n}".encode()).digest()[0] % 2]


def filtered_picture(icon: dict, style: Style) -> np.ndarray:
    """uint8 RGB (64, 64, 3)."""
    rgba = draw(_drawn_over(icon, style), EDGE * OVERDRAW).astype(np.float32) / 255
    done = style.treat(rgba[..., :3], rgba[..., 3:])
    small = done.reshape(EDGE, OVERDRAW, EDGE, OVERDRAW, 3).mean((1, 3))
    return np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)


def _drawn_over(icon: dict, style: Style) -> dict:
    """The icon with the style's stroke and fill."""
    body = icon["body"]
    if style.fill:
        body = re.sub(r'fill="(?!none)[^"]*"', f'fill="{style.fill}"', body)
    if style.stroke:
        width = style.width * max(icon["width"], icon["height"])
        pen = f'stroke="{style.stroke}" stroke-width="{width}" stroke-linejoin="round" stroke-linecap="round"'
        body = f"<g {pen}>{body}</g>"
    return icon | {"body": body}


def filtered_pictures(icons: dict[str, dict[str, dict]], names: list[str]) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """(uint8 RGB (N, 64, 64, 3), the (name, style) of each) of all styles."""
    labels = [(name, word) for word in STYLES for name in names_for(word, names)]
    pictures = [filtered_picture(icons[STYLES[word].source][name], STYLES[word]) for name, word in labels]
    return np.stack(pictures), labels
