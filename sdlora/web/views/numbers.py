"""Numbers for people: amounts, shares, sizes, durations."""

from __future__ import annotations

from sdlora.core.text import Text
from sdlora.web import strings


def amount(n: int) -> Text:
    """`797,184`; from a million on `859.5 million` and `8 億 5,952 万`."""
    if n < 1_000_000:
        return Text(f"{n:,}", f"{n:,} ")
    oku, man = divmod(round(n / 10_000), 10_000)  # 10^8, 10^4
    ja = f"{oku} 億 {man:,} 万" if oku else f"{n / 10_000:,.0f} 万"
    return Text(f"{n / 1_000_000:,.1f} million", f" {ja}")


def share(part: int, whole: int) -> str:
    """Percent with two significant digits."""
    percent = 100 * part / whole
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"


def size(n: float) -> str:
    """Bytes as `3 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if n >= factor:
            return f"{n / factor:.1f} {unit}" if n < 10 * factor else f"{n / factor:.0f} {unit}"
    return f"{max(1, round(n / 1000))} KB"


def duration(seconds: float) -> Text:
    minutes = round(seconds / 60)
    if seconds < 60:
        return strings.numbers.SECONDS.fill(n=max(1, round(seconds)))
    if minutes < 60:
        return strings.numbers.MINUTES.fill(n=minutes)
    return strings.numbers.HOURS.fill(hours=minutes // 60, minutes=minutes % 60)


def time_left(seconds: float) -> Text:
    return strings.numbers.LEFT.fill(time=duration(seconds))


def times(n: float) -> str:
    """How often, as `0.5`, `12`, `133`."""
    return f"{n:.1f}" if n < 2 else f"{n:.0f}"
