"""Pictures of 8 bits at another size, on a background, or inverted."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

Part = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a picture, in pixels and fractions of them."""


def resized(picture: Image.Image, size: tuple[int, int], part: Part | None = None) -> Image.Image:
    """The picture (L, RGB or RGBA), or a part of it, at that width and height; itself if it has
    them.

    One channel (L) is a mask, which is resized bilinearly: Lanczos overshoots at edges, which would
    make a mask's black grey.
    """
    if size == picture.size and part is None:
        return picture
    way = Image.Resampling.BILINEAR if picture.mode == "L" else Image.Resampling.LANCZOS
    return picture.resize(size, way, part)


def extended(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture in the middle of that width and height, with its edges repeated all around."""
    if size == picture.size:
        return picture
    pixels = np.asarray(picture)
    spare = (size[1] - picture.height, size[0] - picture.width)
    margins = [(each // 2, each - each // 2) for each in spare]
    margins += [(0, 0)] * (pixels.ndim - 2)
    return Image.fromarray(np.pad(pixels, margins, mode="edge"))


def flattened(picture: Image.Image, background: str = "white") -> Image.Image:
    """The picture in RGB; where it is transparent, the background shows, as paper does."""
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    paper = Image.new("RGBA", picture.size, background)
    return Image.alpha_composite(paper, picture).convert("RGB")


def inverted(mask: Image.Image) -> Image.Image:
    """The mask (L) with black and white changed over."""
    return ImageChops.invert(mask)
