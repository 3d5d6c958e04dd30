"""What a screen is, for the list of screens in `web.page`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sdlora.core.text import Text
from sdlora.web.context import Page
from sdlora.web.snapshot import LivePart

Part = TypeVar("Part")


@dataclass(frozen=True)
class Built:
    """The parts of the page built so far, by their class: `built[Pictures]`. A screen finds the ones before it here."""

    parts: dict[type, Any] = field(default_factory=dict)

    def add(self, part: object) -> None:
        self.parts[type(part)] = part

    def __getitem__(self, kind: type[Part]) -> Part:
        found: Part = self.parts[kind]
        return found


@dataclass(frozen=True)
class Screen:
    """One entry of the list. `build` places the components and connects them; what it returns goes into `Built`.

    `live_parts` of that are drawn anew while a job runs.
    """

    anchor: str  # element id of the section, and its link
    title: Text
    lead: Text
    build: Callable[[Page, Built], Any]
    live_parts: Callable[[Any], Mapping[str, LivePart]] = lambda built: {}
