"""Presets: named partial settings, TOML files in `presets/`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdlora.config.values import Config, from_values
from sdlora.core.errors import BadInput
from sdlora.core.text import Text


@dataclass(frozen=True)
class Preset:
    """Partial settings from `presets/<name>.toml`; `on` holds overrides for particular bases."""

    name: str
    title: Text
    summary: Text
    values: dict[str, Any]
    on: dict[str, dict[str, Any]]

    def for_base(self, base: str) -> dict[str, Any]:
        """Flat values for this base, only those that the preset names."""
        return {**self.values, **self.on.get(base, {})}


def preset_folder() -> Path:
    """`presets/` beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).parent.parent
    inside = package / "presets"
    return inside if inside.is_dir() else package.parent / "presets"


def presets(folder: Path | None = None) -> dict[str, Preset]:
    """All presets by name, in the order that their files say.

    Raises:
        BadInput: a file is not TOML, or names a setting that does not exist or a value out of range.
    """
    found = []
    for path in (folder or preset_folder()).glob("*.toml"):
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
            about = content.pop("about")
            on = {base: _flat(nested) for base, nested in content.pop("on", {}).items()}
            preset = Preset(path.stem, Text(**about["title"]), Text(**about["summary"]), _flat(content), on)
            for base in ("", *on):
                from_values(preset.for_base(base))
        except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(
                Text(
                    f"The preset {path.name} cannot be read: {error}",
                    f"プリセット {path.name} を読み込めません: {error}",
                )
            ) from None
        found.append((about.get("order", 99), preset))
    return {p.name: p for _, p in sorted(found, key=lambda pair: (pair[0], pair[1].name))}


def _flat(nested: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{section}.{name}": value for section, inner in nested.items() for name, value in inner.items()}


def resolve(preset: str = "style", base: str | None = None, changes: Iterable[tuple[str, Any]] = ()) -> Config:
    """Merge defaults, the preset (with its overrides for this base) and the changes; later ones win.

    Raises:
        BadInput: no such preset, or a value that `Config` refuses.
    """
    by_name = presets()
    if preset not in by_name:
        names = ", ".join(by_name)
        raise BadInput(
            Text(
                f"There is no preset {preset[:80]!r}. There are: {names}.",
                f"プリセット {preset[:80]!r} はありません。使えるのは {names} です。",
            )
        )
    changed = dict(changes)
    if base is not None:
        changed["model.base"] = base
    name = changed.get("model.base", Config().model.base)
    values = by_name[preset].for_base(str(name))
    steps = changed.get("train.steps")
    if isinstance(steps, int) and 0 < steps < values.get("train.warmup_steps", 0):
        values["train.warmup_steps"] = steps // 10  # the preset's own is meant for a longer run
    return from_values({**values, **changed})
