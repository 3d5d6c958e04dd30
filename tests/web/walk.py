"""`python -m tests.web.walk FOLDER`: every route of the app as JSON. In a process of its own: gradio leaves event loops open."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def walk(found: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(method, path) of every route, through mounted apps and included routers."""
    for route in found:
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        if hasattr(inner, "routes"):  # a mount, or a router that was included
            own = getattr(getattr(route, "include_context", None), "prefix", getattr(route, "path", ""))
            yield from walk(inner.routes, prefix + own)
        else:
            assert hasattr(route, "path"), f"a kind of route that this walk cannot read: {route!r}"
            for method in getattr(route, "methods", None) or ["GET", "POST"]:
                yield method, prefix + route.path


if __name__ == "__main__":
    from sdlora.jobs.paths import Workspace
    from sdlora.web.server import make_app

    print(json.dumps(sorted(set(walk(make_app(Workspace(Path(sys.argv[1]))).routes)))))
