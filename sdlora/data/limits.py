"""Limits of a picture, a caption and an import, and the exception that leaves one file out."""

from __future__ import annotations

from dataclasses import dataclass

from sdlora.core.text import Text

MEGA = 1_000_000

PICTURE_BYTES = 20 * MEGA  # of the original file
PIXELS = 64 * MEGA
EDGE_MIN, EDGE_MAX = 64, 16_384
ASPECT = 8  # longer edge : shorter edge
CAPTION_BYTES = 64 * 1024
TABLE_BYTES = 20 * MEGA  # one metadata.jsonl or metadata.csv
ZIP_DIRECTORY_BYTES = 8 * MEGA  # the list of names in a zip: zipfile holds it in memory whole

DECODE_SECONDS = 60.0  # one picture, start of the child included
DECODE_MEMORY = 2 << 30  # address space of the decoding child; 64 megapixels of CMYK with a profile need about half


@dataclass(frozen=True)
class ImportLimits:
    """What one import may hold at most."""

    pictures: int
    files: int  # of any kind
    bytes: int  # of everything that is read, after unpacking


UPLOAD = ImportLimits(5_000, 20_000, 2_000 * MEGA)  # by a browser, or in a zip
LOCAL_FOLDER = ImportLimits(
    100_000, 400_000, 10_000_000 * MEGA
)  # a folder on this machine, named on the command line: nothing is unpacked


class Refusal(Exception):
    """One file cannot be used, `text` says why; the import goes on without it."""

    def __init__(self, text: Text):
        super().__init__(text.en)
        self.text = text
