"""Whatever the documents name exists: links with their headings, files, functions, settings, modules to run."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from sdlora.config.values import Config

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    path
    for pattern in ("*.md", "sdlora/*.md", "docs/**/*.md", "tests/*.md", "bench/*.md", "base/*.md")
    for path in sorted(ROOT.glob(pattern))
]
ROOMS = {path.name for path in (ROOT / "sdlora").iterdir() if path.is_dir()}
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w./-]*\w\.(?:py|md|toml|html|css|js|yaml|yml)|(?:[\w.-]+/)+")
NAME = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:\(\))?")
MODULE = re.compile(r"python -m ((?:sdlora|bench|base|tests)[\w.]*)")
WORKSPACE = {"workspace", "owners", "trash", "masks"}  # folders of people and jobs, not of this repository
ELSEWHERE = re.compile(r"https?://|mailto:")


def document_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """The text without fenced blocks, whose lines are commands and drawings."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)


@cache
def headings(path: Path) -> set[str]:
    """GitHub's anchors of a document's headings."""
    lines = re.findall(r"^#+ (.+)$", prose(path), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def module_file(parts: list[str]) -> Path | None:
    """The file of a module by its name's parts, of the package or of a room in it."""
    for top in (ROOT, ROOT / "sdlora"):
        place = top.joinpath(*parts)
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
    return None


@cache
def members(file: Path) -> dict[str, set[str]]:
    """What a module defines or imports, and what each of its classes defines."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            found[node.name] = {name for inner in node.body for name in _bound(inner)}
        for name in _bound(node):
            found.setdefault(name, set())
    return found


def _bound(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    if isinstance(node, ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    return []


def exists_in_code(name: str) -> bool:
    """`room.module`, `room.module.function`, `room.module.Class.method`; with or without `sdlora.` in front."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        file = module_file(parts[:length])
        if file:
            rest = parts[length:]
            inside = members(file)
            return not rest or (rest[0] in inside and (len(rest) == 1 or rest[1] in inside[rest[0]]))
    return False


def is_setting(name: str) -> bool:
    section, _, rest = name.partition(".")
    fields = Config.model_fields.get(section)
    return fields is not None and rest in getattr(fields.annotation, "model_fields", {})


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_id)
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for target in LINK.findall(prose(document)):
        if ELSEWHERE.match(target):
            continue
        file, _, anchor = target.partition("#")
        place = (document.parent / file).resolve() if file else document
        if not place.exists() or (anchor and place.suffix == ".md" and anchor not in headings(place)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_id)
def test_files_that_are_named_exist(document: Path) -> None:
    """Beside the document, in the package, or from the top."""
    missing = [
        name
        for name in CODE.findall(prose(document))
        if FILE.fullmatch(name)
        and name.split("/")[0] not in WORKSPACE
        and not any((top / name).exists() for top in (ROOT, ROOT / "sdlora", document.parent))
    ]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_id)
def test_functions_that_are_named_exist(document: Path) -> None:
    missing = []
    for code in CODE.findall(prose(document)):
        name = NAME.fullmatch(code)
        if not name or code.split(".")[0] not in ROOMS | {"sdlora", "bench", "base", "tests"} or FILE.fullmatch(code):
            continue
        if not exists_in_code(name[1]) and not is_setting(name[1]):
            missing.append(code)
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=document_id)
def test_modules_that_are_to_be_run_exist(document: Path) -> None:
    named = MODULE.findall(document.read_text(encoding="utf-8"))
    missing = [name for name in named if not module_file(name.rstrip(".").split("."))]
    assert not missing


def test_every_test_has_a_promise() -> None:
    """`tests/README.md` names each file of tests beside what it holds."""
    tests = ROOT / "tests"
    named = set(CODE.findall((tests / "README.md").read_text(encoding="utf-8")))
    missing = {str(file.relative_to(tests)) for file in tests.rglob("test_*.py")} - named
    assert not missing
