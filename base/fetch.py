"""Fetch the emoji packages with npm into the work folder, and read their icons."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

SCOPE = "@iconify-json"


def default_work() -> Path:
    """`$SDLORA_BASE_WORK`, else a folder in the user's cache; never inside the repository."""
    chosen = os.environ.get("SDLORA_BASE_WORK")
    return Path(chosen) if chosen else Path.home() / ".cache" / "sdlora-base"


def icons_of(package: str, work: Path) -> dict[str, dict]:
    """All icons of one package: name -> {body, left, top, width, height}, aliases without turns included.

    Runs `npm install` once when the package is not yet below `work/npm`.
    """
    folder = work / "npm" / "node_modules" / SCOPE / package
    if not (folder / "icons.json").exists():
        prefix = work / "npm"
        prefix.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(prefix), f"{SCOPE}/{package}"]
        subprocess.run(command, check=True)
    data = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
    size = {"left": 0, "top": 0, "width": data.get("width", 16), "height": data.get("height", 16)}
    icons = {name: size | icon for name, icon in data["icons"].items()}
    for name, alias in data.get("aliases", {}).items():
        if alias.keys() == {"parent"} and alias["parent"] in icons:
            icons[name] = icons[alias["parent"]]
    return icons
