"""The only route that serves files: pictures and LoRA files of the workspace, under names that cannot be guessed."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from starlette.responses import FileResponse, PlainTextResponse, Response

from sdlora.core.errors import SdloraError

TYPES = {
    ".png": "image/png",
    ".webp": "image/webp",  # thumbnails, made here
    ".safetensors": "application/octet-stream",
    ".zip": "application/zip",
}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, max-age=31536000, immutable",  # other bytes have another name
}
MAX_ZIPS = 3  # the files in them lie in the workspace once more
THUMBNAIL = 320  # pixels of the longer edge: sharp at 160 on a dense screen


@dataclass(frozen=True)
class ServedFile:
    """A file that a page has linked to."""

    path: Path
    download: str = ""  # the name it is saved under; "" = shown in the page
    small: bool = False
    make: Callable[[Path], object] | None = None  # writes `path` when it is asked for


class Media:
    """Knows the files that pages have linked to. The secret is new in each process, so old links die with it."""

    def __init__(self, root: Path):
        self._root = root.resolve()
        self._secret = secrets.token_bytes(32)
        self._files: dict[str, ServedFile] = {}
        self._making = threading.Lock()
        self._zips = self._root / "cache" / "zips"
        shutil.rmtree(self._zips, ignore_errors=True)  # of a process before, whose links are dead

    def picture(self, path: Path) -> str:
        return self._link(ServedFile(path))

    def thumbnail(self, path: Path) -> str:
        return self._link(ServedFile(path, small=True))

    def download(self, path: Path, name: str) -> str:
        return self._link(ServedFile(path, download=name))

    def archive(self, content: str, name: str, make: Callable[[Path], object]) -> str:
        """A link to a zip that is made when somebody follows it. Other `content` has another link."""
        key = self._key(f"{content}\0{name}")
        self._files[key] = ServedFile(self._zips / f"{key}.zip", name, make=make)
        return f"/media/{key}"

    def _link(self, entry: ServedFile) -> str:
        """A path inside the workspace becomes a link; "" for a file that is missing, outside or of another type."""
        try:
            path = entry.path.resolve(strict=True)
            facts = path.stat()
        except OSError:
            return ""
        if path.suffix not in TYPES or not path.is_relative_to(self._root):
            return ""
        content = f"{path}\0{facts.st_mtime_ns}\0{facts.st_size}\0{entry.download}\0{entry.small}"
        key = self._key(content)
        self._files[key] = ServedFile(path, entry.download, entry.small)
        return f"/media/{key}"

    def _key(self, content: str) -> str:
        return hmac.new(self._secret, content.encode(), hashlib.sha256).hexdigest()[:40]

    def respond(self, key: str) -> Response:
        entry = self._files.get(key)
        if entry and entry.make:
            self._make(entry)
        if entry is None or not entry.path.is_file():
            return PlainTextResponse("Not found", status_code=404, headers={"X-Content-Type-Options": "nosniff"})
        path = self._thumbnail(entry.path) if entry.small else entry.path
        return FileResponse(
            path,
            headers=HEADERS,
            media_type=TYPES[path.suffix],
            filename=entry.download or None,
            content_disposition_type="attachment" if entry.download else "inline",
        )

    def _make(self, entry: ServedFile) -> None:
        """Write it unless it is there; the oldest of more than a few go. What cannot be made is not found."""
        with self._making, contextlib.suppress(SdloraError, OSError):
            if not entry.path.is_file():
                assert entry.make
                entry.make(entry.path)
            others = sorted(self._zips.glob("*.zip"), key=lambda p: p.stat().st_mtime)
            for old in others[:-MAX_ZIPS]:
                old.unlink(missing_ok=True)

    def _thumbnail(self, path: Path) -> Path:
        """The thumbnail of a picture, made at the first request, then cached."""
        name = hashlib.sha256(f"{path}\0{path.stat().st_mtime_ns}".encode()).hexdigest()[:40]
        target = self._root / "cache" / "thumbnails" / f"{name}.webp"
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{name}.{secrets.token_hex(4)}.webp")
            with Image.open(path, formats=["PNG"]) as picture:
                small = picture.convert("RGB")
                small.thumbnail((THUMBNAIL, THUMBNAIL))
                small.save(temporary, "WEBP", quality=82)
            os.replace(temporary, target)
        return target
