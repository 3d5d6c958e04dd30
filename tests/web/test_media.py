"""The media route serves what a page has linked to, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from starlette.responses import FileResponse

from sdlora.web.security.media import Media


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    Image.new("RGB", (900, 600), "teal").save(folder / "a.png")
    return folder


def key(link: str) -> str:
    return link.removeprefix("/media/")


def test_a_linked_picture_is_served_with_strict_headers(root: Path) -> None:
    media = Media(root)
    answer = media.respond(key(media.picture(root / "a.png")))
    assert isinstance(answer, FileResponse)
    assert answer.media_type == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")


def test_unknown_names_are_not_found(root: Path) -> None:
    media, other = Media(root), Media(root)
    assert media.respond("0" * 40).status_code == 404
    assert media.respond(key(other.picture(root / "a.png"))).status_code == 404  # another process's secret


def test_outside_links_and_other_types_get_no_name(root: Path) -> None:
    media = Media(root)
    Image.new("RGB", (8, 8)).save(root.parent / "outside.png")
    (root / "link.png").symlink_to(root.parent / "outside.png")
    (root / "page.svg").write_text("<svg/>")
    for path in (
        root.parent / "outside.png",
        root / "link.png",
        root / "page.svg",
        root / "missing.png",
        root / "../outside.png",
    ):
        assert media.picture(path) == ""


def test_a_thumbnail_is_small_and_made_once(root: Path) -> None:
    media = Media(root)
    link = key(media.thumbnail(root / "a.png"))
    answer = media.respond(link)
    assert isinstance(answer, FileResponse)
    with Image.open(answer.path) as small:
        assert max(small.size) == 320
    again = media.respond(link)
    assert isinstance(again, FileResponse)
    assert again.path == answer.path


def test_a_download_has_a_good_name_in_any_script(root: Path) -> None:
    (root / "x.safetensors").write_bytes(b"abc")
    media = Media(root)
    header = media.respond(key(media.download(root / "x.safetensors", "水彩 画風.safetensors"))).headers[
        "content-disposition"
    ]
    assert header.startswith("attachment")
    assert "filename*=utf-8''%E6%B0%B4" in header
