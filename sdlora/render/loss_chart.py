"""The loss chart as an SVG: raw loss thin, smoothed thick, held-out loss in a panel of its own. No library, no browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from sdlora.core.events import Follower, Judged
from sdlora.core.text import Language, Text

WIDTH, LEFT, RIGHT = 560, 58, 12
TOP, LOSS_HEIGHT, GAP, HELD_HEIGHT, BOTTOM = 30, 190, 50, 110, 40
RAW_POINTS, SMOOTH_POINTS = 240, 120  # drawn at most, however long the run

LOSS = Text("loss", "損失")
STEP = Text("step", "ステップ")
RAW = Text("each step", "各ステップ")
SMOOTHED = Text("smoothed", "平滑化")
HELD_OUT = Text("held-out loss", "検証損失")
BASE = Text("base model", "基礎モデル")
BEST = Text("best: step {step}", "最良: ステップ {step}")
TITLE = Text("Loss over {steps} steps", "{steps} ステップの損失")

# Middle tones that stand out on white and on black; text and axes take the colour of the text around them.
STYLE = (
    ".raw{fill:none;stroke:#7d9aa8;stroke-width:1;opacity:.55}"
    ".smooth{fill:none;stroke:#2f8f78;stroke-width:2.6;stroke-linejoin:round;stroke-linecap:round}"
    ".held{fill:none;stroke:#c9772e;stroke-width:2}.dot{fill:#c9772e}.bestdot{fill:#c9772e;stroke:currentColor;stroke-width:2}"
    ".base{stroke:currentColor;stroke-dasharray:5 4;opacity:.55}.grid{stroke:currentColor;opacity:.13}"
    ".best{stroke:#c9772e;stroke-dasharray:3 3}text{fill:currentColor;font-size:13px;opacity:.8}"
)

Point = tuple[float, float]


@dataclass(frozen=True)
class _Panel:
    """A plotting area: where it lies (pixels) and what it spans (steps, losses)."""

    top: float
    height: float
    steps: tuple[float, float]
    losses: tuple[float, float]

    def x(self, step: float) -> float:
        low, high = self.steps
        return LEFT + (step - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, loss: float) -> float:
        low, high = self.losses
        inside = min(max((loss - low) / (high - low), 0.0), 1.0)
        return self.top + (1 - inside) * self.height


def loss_chart(follower: Follower, best: int = 0, language: Language = "en", inside: bool = False) -> str:
    """The chart of what a run has told so far; "" before its first step.

    `best` marks a judged checkpoint. `inside` a page it takes the page's colours and font; else it has a white ground.
    """
    points = sorted((s.step, s.loss) for s in follower.steps.values() if math.isfinite(s.loss))
    if not points:
        return ""
    judged = [judgement for _, judgement in sorted(follower.judged.items())]
    end = follower.started.steps if follower.started else 0
    span = (0.0, float(max(end, points[-1][0], 2)))
    main = _Panel(TOP, LOSS_HEIGHT, span, _range([loss for _, loss in points]))
    parts = [
        _axes(main, LOSS.say(language)),
        _line("raw", main, _extremes(points, RAW_POINTS // 2)),
        _line("smooth", main, _thinned(smoothed(points, max(10, end / 20, len(points) / 20)), SMOOTH_POINTS)),
        _legend(language),
    ]
    last = main
    if judged:
        losses = [loss for j in judged for loss in (j.held_out_loss, j.base_loss)]
        last = _Panel(TOP + LOSS_HEIGHT + GAP, HELD_HEIGHT, span, _range(losses, 0.15))
        parts += _held_out(last, judged, best, language)
    parts.append(_steps_axis(last, STEP.say(language)))
    return _svg(parts, last.top + last.height + BOTTOM, TITLE.fill(steps=points[-1][0]).say(language), inside)


def _svg(parts: Sequence[str], height: float, title: str, inside: bool) -> str:
    ground = "" if inside else f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    colour = "" if inside else ' style="color:#222;font-family:sans-serif"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}" '
        f'class="chart"{colour}><style>{_scoped(STYLE)}</style>{ground}{"".join(parts)}</svg>'
    )


def smoothed(points: Sequence[tuple[int, float]], window: float) -> list[Point]:
    """Exponential mean over about `window` points, started without a bias to the first value."""
    keep = 1 - 2 / (window + 1)
    total = weight = 0.0
    out: list[Point] = []
    for step, loss in points:
        total = keep * total + (1 - keep) * loss
        weight = keep * weight + (1 - keep)
        out.append((step, total / weight))
    return out


def _extremes(points: Sequence[tuple[int, float]], buckets: int) -> list[Point]:
    """The lowest and the highest point of each bucket, in order of step: spikes stay visible."""
    if len(points) <= 2 * buckets:
        return list(points)
    out: list[Point] = []
    for k in range(buckets):
        part = points[len(points) * k // buckets : len(points) * (k + 1) // buckets]
        out += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return out


def _thinned(points: Sequence[Point], count: int) -> list[Point]:
    if len(points) <= count:
        return list(points)
    return [points[round(k * (len(points) - 1) / (count - 1))] for k in range(count)]


def _range(values: Sequence[float], margin: float = 0.05) -> tuple[float, float]:
    """What the axis spans: all but the highest hundredth, so that one spike does not flatten the rest."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[min(len(ordered) - 1, math.ceil(len(ordered) * 0.99))]
    pad = (high - low) * margin or abs(high) * 0.1 or 1.0
    return (low - pad if low < 0 else max(0.0, low - pad)), high + pad


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers inside the range: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _axes(panel: _Panel, label: str) -> str:
    rows = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{panel.y(v):.1f}" y2="{panel.y(v):.1f}"/>'
        f'<text x="{LEFT - 8}" y="{panel.y(v) + 4:.1f}" text-anchor="end">{v:.4g}</text>'
        for v in _ticks(*panel.losses, max(2, round(panel.height / 45)))
    )
    return f'{rows}<text x="{LEFT}" y="{panel.top - 12}" font-weight="600">{escape(label)}</text>'


def _steps_axis(panel: _Panel, label: str) -> str:
    y = panel.top + panel.height
    ticks = [t for t in _ticks(*panel.steps, 6) if t == int(t)]
    edge = WIDTH - RIGHT - 20  # a number that would stick out ends at the edge
    marks = "".join(
        f'<text x="{WIDTH - RIGHT}" y="{y + 18}" text-anchor="end">{int(t):,}</text>'
        if panel.x(t) > edge
        else f'<text x="{panel.x(t):.1f}" y="{y + 18}" text-anchor="middle">{int(t):,}</text>'
        for t in ticks
    )
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>{marks}'
        f'<text x="{WIDTH - RIGHT}" y="{y + 34}" text-anchor="end">{escape(label)}</text>'
    )


def _line(name: str, panel: _Panel, points: Sequence[Point]) -> str:
    path = " ".join(f"{panel.x(step):.1f},{panel.y(loss):.1f}" for step, loss in points)
    return f'<polyline class="{name}" points="{path}"/>'


def _held_out(panel: _Panel, judged: Sequence[Judged], best: int, language: Language) -> list[str]:
    base = judged[-1].base_loss
    below = 15 if panel.y(base) < panel.top + 20 else -6
    parts = [
        _axes(panel, HELD_OUT.say(language)),
        f'<line class="base" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{panel.y(base):.1f}" y2="{panel.y(base):.1f}"/>',
        f'<text x="{WIDTH - RIGHT}" y="{panel.y(base) + below:.1f}" text-anchor="end">{escape(BASE.say(language))}</text>',
        _line("held", panel, [(j.step, j.held_out_loss) for j in judged]),
    ]
    for j in judged:
        kind, radius = ("bestdot", 5) if j.step == best else ("dot", 3.5)
        parts.append(
            f'<circle class="{kind}" cx="{panel.x(j.step):.1f}" cy="{panel.y(j.held_out_loss):.1f}" r="{radius}"/>'
        )
    return parts + (_best(panel, best, language) if any(j.step == best for j in judged) else [])


def _best(panel: _Panel, step: int, language: Language) -> list[str]:
    """A line through both panels, named in the head of the lower one."""
    x, bottom = panel.x(step), panel.top + panel.height
    text = escape(BEST.fill(step=f"{step:,}").say(language))
    return [
        f'<line class="best" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>',
        f'<text x="{WIDTH - RIGHT}" y="{panel.top - 12}" text-anchor="end">{text}</text>',
    ]


def _legend(language: Language) -> str:
    parts, x = [], WIDTH - RIGHT - 190
    for name, text in (("raw", RAW), ("smooth", SMOOTHED)):
        parts.append(f'<line class="{name}" x1="{x}" x2="{x + 22}" y1="14" y2="14"/>')
        parts.append(f'<text x="{x + 28}" y="18">{escape(text.say(language))}</text>')
        x += 100
    return "".join(parts)


def _scoped(style: str) -> str:
    """An SVG inside a page shares the page's name space: every rule is bound to the chart."""
    return "".join(
        ",".join(f".chart {one}" for one in names.split(",")) + "{" + rules + "}"
        for names, _, rules in (rule.partition("{") for rule in style.split("}") if rule)
    )
