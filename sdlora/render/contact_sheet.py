"""Pictures side by side under their strengths, in one PNG."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

SMALLEST = 128  # pixels of a side that a picture is shown with


def contact_sheet(rows: Sequence[Sequence[Image.Image]], heads: Sequence[str]) -> Image.Image:
    """Rows of equally sized pictures with a heading over each column. Small pictures are enlarged in whole multiples."""
    width, height = rows[0][0].size
    zoom = max(1, -(-SMALLEST // width))
    width, height = width * zoom, height * zoom
    gap, head = 8, 28
    page = Image.new("RGB", (len(heads) * (width + gap) + gap, head + len(rows) * (height + gap)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(16)
    for column, text in enumerate(heads):
        x = gap + column * (width + gap)
        pen.text((x + width // 2, head // 2), text, fill="black", font=font, anchor="mm")
        for row, pictures in enumerate(rows):
            page.paste(
                pictures[column].resize((width, height), Image.Resampling.NEAREST), (x, head + row * (height + gap))
            )
    return page
