"""Picture formats told by their first bytes: which are read, and what to do about those that are not."""

from __future__ import annotations

import importlib.util

from PIL import features

from sdlora.core.text import Text

HEADER_BYTES = 64
READS_AVIF = bool(features.check("avif"))
READS_HEIC = importlib.util.find_spec("pillow_heif") is not None
# Pillow's names of the formats that are decoded.
DECODED = (
    *("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"),
    *(("AVIF",) if READS_AVIF else ()),
    *(("HEIF",) if READS_HEIC else ()),
)
TITLES = "PNG, JPEG, WebP, BMP, GIF, TIFF" + (", AVIF" if READS_AVIF else "") + (", HEIC" if READS_HEIC else "")
# Suffixes of pictures; any other file is a picture by its first bytes.
SUFFIXES = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"),
        *(".heic", ".heif", ".hif", ".jxl", ".jp2", ".psd"),
    )
)
RAW_SUFFIXES = frozenset(
    (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".pef", ".srw", ".raf")  # TIFF inside, a thumbnail first
)

_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"mif1", b"msf1"), "HEIF"),
    b"crx ": "RAW",
}
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\0\0\0\x0cJXL ", "JXL"),
    (b"\xff\x0a", "JXL"),
    (b"\0\0\0\x0cjP  ", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"8BPS", "PSD"),
    (b"%PDF", "PDF"),
)


def detect_format(header: bytes, suffix: str = "") -> str:
    """Pillow's name of the format that these first bytes announce, or one of JXL, JPEG2000, PSD, PDF, SVG, RAW; "" = none of them."""
    if suffix in RAW_SUFFIXES:
        return "RAW"
    if header[4:8] == b"ftyp":
        return _BRANDS.get(header[8:12], "")
    if header[:4] == b"RIFF" and header[8:12] == b"WEBP":
        return "WEBP"
    found = next((name for signature, name in _SIGNATURES if header.startswith(signature)), "")
    if found == "BMP" and (
        len(header) < 18 or header[14:18] not in (b"\x0c\0\0\0", b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0")
    ):
        return ""  # two letters begin many texts
    return found or ("SVG" if b"<svg" in header.lower() else "")


def is_picture(header: bytes, suffix: str) -> bool:
    """Whether a file that is not called a picture is one all the same."""
    found = detect_format(header, suffix)
    return found in DECODED or found in ("HEIF", "AVIF", "JXL", "JPEG2000", "PSD")


_HOW = {
    "AVIF": ("an AVIF picture", "AVIF 画像"),
    "JXL": ("a JPEG XL picture", "JPEG XL 画像"),
    "JPEG2000": ("a JPEG 2000 picture", "JPEG 2000 画像"),
    "PSD": ("a Photoshop document", "Photoshop のファイル"),
    "PDF": ("a PDF document", "PDF ファイル"),
    "SVG": ("a vector drawing (SVG)", "ベクター画像 (SVG)"),
    "RAW": ("a camera's raw file", "カメラの RAW ファイル"),
}


def refusal_text(format: str) -> Text | None:
    """How to save a picture of this format so that it can be read; None for formats that can be."""
    if format == "HEIF" and not READS_HEIC:
        return Text(
            "It is a HEIC picture (iPhone). Export it as JPEG (Mac: Preview, File > Export; iPhone: Settings > Camera > Formats > Most Compatible), or install the package pillow-heif.",
            "HEIC 画像 (iPhone) です。JPEG に書き出してください (Mac: プレビューの「書き出す」、iPhone: 設定 > カメラ > フォーマット > 互換性優先)。pillow-heif パッケージを入れると直接読めます。",
        )
    if format in DECODED or format not in _HOW:
        return None
    english, japanese = _HOW[format]
    return Text(
        f"It is {english}, which is not read here. Open it in a picture program and save it as PNG or JPEG.",
        f"{japanese}は読み込めません。画像ソフトで開き、PNG か JPEG で保存し直してください。",
    )
