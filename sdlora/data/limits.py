"""What a picture, a caption and a set may be at most, and how one file is refused by name."""

from __future__ import annotations

from sdlora.text import Text

MEGA = 1_000_000

PICTURES = 5_000  # in one set
PICTURE_BYTES = 20 * MEGA  # of the file that was given
PIXELS = 64 * MEGA
EDGE_MIN, EDGE_MAX = 64, 16_384
ASPECT = 8  # longer edge : shorter edge
CAPTION_BYTES = 64 * 1024
TABLE_BYTES = 20 * MEGA  # one metadata.jsonl or metadata.csv
TOTAL_BYTES = 2_000 * MEGA  # of everything read for one set, after unpacking
FILES = 20_000  # of any kind, in one import
ZIP_DIRECTORY_BYTES = 8 * MEGA  # the list of names in a zip: zipfile holds it in memory whole

DECODE_SECONDS = 60.0  # one picture, start of the child included
DECODE_MEMORY = 2 << 30  # address space of the decoding child; 64 megapixels of CMYK with a profile need about half

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


class Refused(Exception):
    """One file cannot be used, `text` says why; the others go in."""

    def __init__(self, text: Text):
        super().__init__(text.en)
        self.text = text
