"""Any picture as 8-bit sRGB without alpha, upright; and one picture cut to a training size."""

from __future__ import annotations

import io

from PIL import Image, ImageCms, ImageOps

from sdlora.core.text import Text
from sdlora.data import limits
from sdlora.data.limits import Refusal

ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def fit(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The picture as RGB at exactly `width` x `height`: scaled (Lanczos) to cover it, the rest cut evenly."""
    return ImageOps.fit(picture.convert("RGB"), (width, height), Image.Resampling.LANCZOS)


def check_size(width: int, height: int) -> None:
    """Refuse by the size in the header, before any pixel is decoded."""
    short, long = sorted((width, height))
    size = f"{width} x {height}"
    if width * height > limits.PIXELS or long > limits.EDGE_MAX:
        raise Refusal(
            Text(
                f"It is {size} pixels; at most 64 megapixels and {limits.EDGE_MAX:,} pixels on the longer side are read. Make it smaller.",
                f"{size} ピクセルあります。読み込めるのは 6400 万画素、長辺 {limits.EDGE_MAX:,} ピクセルまでです。縮小してください。",
            )
        )
    if short < limits.EDGE_MIN:
        raise Refusal(
            Text(
                f"It is only {size} pixels; both sides must be at least {limits.EDGE_MIN}. Use a larger version.",
                f"{size} ピクセルしかありません。縦横とも {limits.EDGE_MIN} ピクセル以上必要です。大きい画像を使ってください。",
            )
        )
    if long > limits.ASPECT * short:
        raise Refusal(
            Text(
                f"It is {size} pixels, longer than {limits.ASPECT}:1. Crop it to the part that matters.",
                f"{size} ピクセルで、縦横比が {limits.ASPECT}:1 を超えています。必要な部分を切り抜いてください。",
            )
        )


def upright_rgb(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    """Decode the first frame. The second value names what was changed: frames, cmyk, grey16, alpha."""
    notes = []
    # An MPO is a JPEG with a second picture (depth, other eye) behind it: nobody calls that an animation.
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        notes.append("frames")
    picture.load()
    turn = _orientation(picture)
    profile = picture.info.get("icc_profile")
    if picture.mode == "CMYK":
        notes.append("cmyk")
    if picture.mode[0] in "IF":
        notes.append("grey16")
        picture = _scale_grey(picture)
    if picture.has_transparency_data:
        picture, transparent = _on_white(picture, profile)
        notes.extend(["alpha"] if transparent else [])
    else:
        picture = _to_srgb(picture, profile)
    if turn in TURNS:
        picture = picture.transpose(TURNS[turn])
    picture.info = {}  # a saved file would carry profile and transparency on
    return picture, notes


def opacity(picture: Image.Image) -> Image.Image | None:
    """8-bit grey, upright: 255 where the first frame hides what is behind it. None where it does so everywhere."""
    picture.load()
    if not picture.has_transparency_data:
        return None
    turn = _orientation(picture)
    alpha = picture.convert("RGBA").getchannel("A")
    if alpha.getextrema()[0] == 255:
        return None
    return alpha.transpose(TURNS[turn]) if turn in TURNS else alpha


def _orientation(picture: Image.Image) -> int:
    """Read after load(): the TIFF reader turns the picture itself and takes the tag away. Broken EXIF is no EXIF."""
    try:
        value = picture.getexif().get(ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError):
        return 1
    return value if isinstance(value, int) else 1


def _scale_grey(picture: Image.Image) -> Image.Image:
    """16-bit grey by its full range; 32-bit and float by the values found, where they do not fit 16 bits or 0 to 1."""
    if picture.mode.startswith("I;16"):
        picture, low, high = picture.convert("I"), 0.0, 65535.0
    else:
        low, high = (float(value) for value in picture.getextrema())  # type: ignore[arg-type]
        if not abs(low) + abs(high) < float("inf"):
            raise Refusal(
                Text(
                    "It has values that are not numbers.",
                    "数値でない画素値があります。別の形式で保存し直してください。",
                )
            )
        if picture.mode == "I" and low >= 0 and 255 < high <= 65535:
            low, high = 0.0, 65535.0
        elif low >= 0 and high <= (1 if picture.mode == "F" else 255):
            low, high = 0.0, 1.0 if picture.mode == "F" else 255.0
    factor = 255 / ((high - low) or 1)
    # Pillow takes a linear function apart by calling it; half a step is added because converting to "L" truncates.
    return picture.point(lambda value: value * factor + (0.5 - low * factor)).convert("L")


def _on_white(picture: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool]:
    """Colours first, then the blend: the background is white in sRGB whatever the profile says."""
    picture = picture.convert("RGBA")
    alpha = picture.getchannel("A")
    colours = _to_srgb(picture.convert("RGB"), profile)
    lowest = alpha.getextrema()[0]
    white = Image.new("RGB", picture.size, "white")
    white.paste(colours, mask=alpha)
    return white, lowest < 255  # type: ignore[operator]


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB in sRGB by the embedded profile. A profile that is broken or of other channels is left aside, as browsers do."""
    if picture.mode not in ("L", "RGB", "CMYK", "LAB"):
        picture = picture.convert("RGB")
    try:
        source = _source_profile(picture, profile)
        if source is None:
            return picture.convert("RGB")
        if source.profile.xcolor_space.strip() == "RGB":
            picture = picture.convert("RGB")
        turned = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return picture.convert("RGB")
    return picture if turned is None else turned


def _source_profile(picture: Image.Image, profile: bytes | None) -> ImageCms.ImageCmsProfile | None:
    """None where nothing is to be done: no profile, or sRGB already (a transform would only add rounding)."""
    if picture.mode == "LAB":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    if not profile:
        return None
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    is_srgb = "srgb" in (source.profile.profile_description or "").lower() and picture.mode == "RGB"
    return None if is_srgb else source
