"""The decoding child, `python -m sdlora.data.decode.child`: strange bytes are opened here and nowhere else.

One JSON line in, `{"source", "target", "mask"}`; one out: `{"width", "height", "notes"}`, or `{"reason": {"en", "ja"}}` where
the picture is refused, or `{"errno"}` where the result could not be written. Anything unforeseen ends the process: the
parent sees that, starts a new one and leaves the picture out.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import struct
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

from PIL import AvifImagePlugin, Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401 (readers that open() does not load itself)

from sdlora.core.text import Text
from sdlora.data import image_formats, limits
from sdlora.data.images import check_size, opacity, upright_rgb
from sdlora.data.limits import Refusal

DAMAGED = Text(
    f"The file is damaged or incomplete, or not a picture ({image_formats.TITLES}). Save it again and retry.",
    f"ファイルが壊れているか途中で切れている、または画像 ({image_formats.TITLES}) ではありません。保存し直してください。",
)
TOO_MUCH_MEMORY = Text(
    "It takes too much memory to decode. Make it smaller or save it as PNG or JPEG.",
    "読み込みに必要なメモリーが多すぎます。縮小するか、PNG か JPEG で保存し直してください。",
)


def decode(source: Path, target: Path, mask: Path) -> dict[str, Any]:
    """Write the picture in `source` to `target` as a PNG that holds pixels and nothing else; how opaque it is to `mask`, if it is not."""
    try:
        with Image.open(source, formats=image_formats.DECODED) as opened:
            check_size(*opened.size)
            opaque = opacity(opened)
            picture, notes = upright_rgb(opened)
    except Refusal as refused:
        return {"reason": {"en": refused.text.en, "ja": refused.text.ja}}
    except MemoryError:
        return {"reason": {"en": TOO_MUCH_MEMORY.en, "ja": TOO_MUCH_MEMORY.ja}}
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error):
        reason = _unreadable_format(source) or DAMAGED
        return {"reason": {"en": reason.en, "ja": reason.ja}}
    try:
        # Level 3 writes a photo twice as fast as the default 6 for a few per cent more bytes.
        picture.save(target, "PNG", compress_level=3)
        if opaque:
            opaque.save(mask, "PNG", compress_level=3)
    except OSError as error:
        return {"errno": error.errno or 5}
    return {"width": picture.width, "height": picture.height, "notes": notes}


def _unreadable_format(source: Path) -> Text | None:
    """What to do about a sound file of a format that is not read, whatever it is called."""
    try:
        with open(source, "rb") as file:
            return image_formats.refusal_text(image_formats.detect_format(file.read(image_formats.HEADER_BYTES)))
    except OSError:
        return None


def register_optional_formats() -> None:
    """HEIC, where the package pillow-heif is installed."""
    if image_formats.READS_HEIC:
        pillow_heif: Any = importlib.import_module("pillow_heif")
        pillow_heif.register_heif_opener()


def limit_resources() -> None:
    _lower(resource.RLIMIT_AS, limits.DECODE_MEMORY)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(what, (value, value))
    except (OSError, ValueError):
        return  # macOS has no limit on address space; the time limit stays


def main() -> None:
    warnings.simplefilter("ignore")
    register_optional_formats()
    limit_resources()
    Image.MAX_IMAGE_PIXELS = None  # check_size is stricter and refuses in words
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a C library prints must not land between the answers
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answer = decode(*(Path(request[name]) for name in ("source", "target", "mask")))
        answers.write(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
