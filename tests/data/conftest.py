"""Pictures, folders and zips made in code: nothing is stored, nothing is fetched."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from sdlora.data import Dataset, import_pictures


def drawing(seed: int, size: tuple[int, int] = (96, 96)) -> Image.Image:
    """A picture with sharp edges that differs from every other seed's."""
    chance = random.Random(seed)
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    for _ in range(14):
        corners = [chance.randrange(size[i % 2]) for i in range(4)]
        box = (min(corners[0::2]), min(corners[1::2]), max(corners[0::2]) + 4, max(corners[1::2]) + 4)
        pen.rectangle(box, fill=tuple(chance.randrange(256) for _ in range(3)))
    return picture


@pytest.fixture
def draw(tmp_path: Path) -> Callable[..., Path]:
    """draw("folder/name.png", seed) writes a picture below tmp_path / "in" and returns its path."""

    def write(name: str, seed: int = 0, size: tuple[int, int] = (96, 96), **options: object) -> Path:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing(seed, size).save(path, **options)
        return path

    return write


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    """write("folder/name.txt", content) writes a file below tmp_path / "in"."""

    def save(name: str, content: bytes | str) -> Path:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return save


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    return tmp_path / "datasets"


@pytest.fixture
def three(draw: Callable[..., Path], datasets: Path) -> Dataset:
    """Three pictures, the first and the second with captions."""
    sources = [draw(f"{name}.png", seed) for seed, name in enumerate("abc")]
    for name in "ab":
        caption = sources[0].with_name(f"{name}.txt")
        caption.write_text(f"picture {name}")
        sources.append(caption)
    return import_pictures(sources, datasets, name="three")


@pytest.fixture
def make_zip(tmp_path: Path) -> Callable[..., Path]:
    """make_zip("a.zip", {name or ZipInfo: content})."""

    def make(name: str, files: Mapping[str | zipfile.ZipInfo, bytes]) -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, content in files.items():
                archive.writestr(entry, content)
        return path

    return make


@pytest.fixture
def png() -> Callable[[int], bytes]:
    """The bytes of a PNG that differs by seed."""
    import io

    def encode(seed: int = 0) -> bytes:
        stream = io.BytesIO()
        drawing(seed).save(stream, "PNG")
        return stream.getvalue()

    return encode
