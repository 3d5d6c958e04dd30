"""What a clone brings, and what a wheel installs."""

from __future__ import annotations

import runpy
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from sdlora.cli import main

ROOT = Path(__file__).parent.parent
LARGEST = 1_000_000  # bytes: a clone carries every version of a file for good
WEIGHTS = {  # the bundled base, frozen: no further ones are committed
    "sdlora/bundled/emoji/text_encoder/model.safetensors",
    "sdlora/bundled/emoji/unet/diffusion_pytorch_model.safetensors",
    "sdlora/bundled/emoji/vae/diffusion_pytorch_model.safetensors",
}


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]


def test_no_further_large_file_is_committed() -> None:
    large = {name for name in tracked() if (ROOT / name).stat().st_size > LARGEST}
    assert large == WEIGHTS


def test_every_package_is_named_for_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "sdlora").rglob("*.py")}
    assert set(project["tool"]["setuptools"]["packages"]) == packages | {"sdlora.presets"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built as `make release` builds it, but by the setuptools that is here: no network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in tracked():
        if name.split("/")[0] in {"sdlora", "presets", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"}:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).symlink_to(ROOT / name)
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(folder)!r}))"
    built = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return zipfile.ZipFile(folder / built.stdout.split()[-1])


def test_the_wheel_holds_what_the_app_reads(wheel: zipfile.ZipFile) -> None:
    inside = set(wheel.namelist())
    expected = {
        name.replace("presets/", "sdlora/presets/", 1) if name.startswith("presets/") else name
        for name in tracked()
        if name.startswith(("sdlora/", "presets/")) and not name.endswith("README.md")
    }
    assert expected - inside == set()
    others = {name for name in inside - expected if ".dist-info/" not in name}
    assert others == set()


def test_the_wheel_installs_the_command(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "sdlora = sdlora.__main__:main" in wheel.read(entry_points).decode()


def test_app_py_is_the_command_app(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["app.py", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "app.py"), run_name="__main__")
    twin = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["app", "--help"])
    assert capsys.readouterr().out == twin
    for flag in ("--host", "--port", "--workspace", "--password-file", "--users-file", "--runner", "--open"):
        assert flag in twin
