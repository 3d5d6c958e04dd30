"""Imports point down, each process carries only what it needs, and forbidden words stay out."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sdlora"

# Rows of the drawing in sdlora/README.md, lowest first. Names in one inner set may import each other.
ROWS: list[list[set[str]]] = [
    [{"core", "bundled"}],
    [{"config"}, {"families"}, {"data"}],
    [{"models"}, {"adapters"}],
    [{"lora_files"}],
    [{"render"}],
    [{"jobs"}, {"train"}],
    [{"library"}],
    [{"processes"}],
    [{"web"}],
    [{"cli"}],
    [{"__main__"}],
]
PLAIN = {"models", "adapters", "lora_files", "families", "data"}  # take plain arguments: never config


def _imports(path: Path) -> set[str]:
    """The first part below `sdlora` of each import; `from sdlora import x` counts as x."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("sdlora.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "sdlora":
            found |= {a.name for a in node.names if not a.name.startswith("__")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sdlora."):
            found.add(str(node.module).split(".")[1])
    return found


def _place(name: str) -> tuple[int, int]:
    return next((r, c) for r, row in enumerate(ROWS) for c, cell in enumerate(row) if name in cell)


def test_imports_point_down() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for other in _imports(path) - {own}:
            below = _place(other)[0] < _place(own)[0] or _place(other) == _place(own)
            if not below or (own in PLAIN and other == "config"):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert not wrong


def test_every_module_has_a_place() -> None:
    names = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in PACKAGE.rglob("*.py")} - {"__init__"}
    assert names <= set().union(*(cell for row in ROWS for cell in row))


# In one interpreter one after the other: what the lighter may not load, is looked for before the heavier come.
LIGHT = {
    "sdlora.jobs.runner": {"torch", "diffusers", "gradio", "numpy"},
    "sdlora.cli": {"torch", "diffusers", "transformers", "peft", "gradio"},
    "sdlora.processes.previewer": {"torch", "gradio"},
    "sdlora.web.server": {"ray", "torch", "diffusers", "transformers", "peft", "accelerate"},
}
HEAVY = {"sdlora.train.run": {"gradio", "fastapi", "pandas"}}


@pytest.mark.parametrize("modules", [LIGHT, HEAVY])
def test_each_process_loads_only_what_it_needs(modules: dict[str, set[str]]) -> None:
    code = "import sys, importlib\nfor m in sys.argv[1:]: importlib.import_module(m); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=True)
    for (module, heavy), loaded in zip(modules.items(), done.stdout.splitlines(), strict=True):
        assert not heavy & set(loaded.split()), module


def test_nothing_is_executed_that_came_from_outside() -> None:
    forbidden = re.compile(
        r"shell=True|os\.system\(|[^a-z_.]eval\(|[^a-z_.]exec\(|torch\.load\(|import pickle|share=True"
    )
    hits = [
        f"{path.name}:{number}"
        for path in [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "base").rglob("*.py"), PACKAGE.parent / "app.py"]
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if forbidden.search(line)
    ]
    assert not hits


def test_only_the_two_edges_catch_everything() -> None:
    hits = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"except (Exception|BaseException)\b(?!.*\n(.*\n){0,3}\s+raise)", path.read_text())
    ]
    assert set(hits) <= {"processes/worker.py", "web/handlers.py"}


FAMILY_FACTS = re.compile(
    r"sd1|sd2|sdxl|unet|UNet2DConditionModel|block_out_channels|text_encoder_2|text_model\.|lora_(unet|te\d?)_"
)


def test_what_a_family_is_stands_in_its_file_alone() -> None:
    """No other room asks for a family by name, takes the denoiser for a UNet or knows its layers' names; settings keep theirs."""
    hits = []
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] == "families":
            continue
        tree = ast.parse(path.read_text())
        strings = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        hits += [
            f"{path.relative_to(PACKAGE)}:{n.lineno} {n.value!r}" for n in strings if FAMILY_FACTS.fullmatch(n.value)
        ]
        attributes = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
        hits += [
            f"{path.relative_to(PACKAGE)}:{n.lineno} .{n.attr}" for n in attributes if FAMILY_FACTS.fullmatch(n.attr)
        ]
    assert not hits
