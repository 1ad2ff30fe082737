"""Pictures of 8 bits at another size, on a background, or inverted."""

from __future__ import annotations

from PIL import Image, ImageChops


def resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture (L, RGB or RGBA) at that width and height; itself if it has them.

    One channel (L) is a mask, which is resized bilinearly: Lanczos overshoots at edges, which would
    make a mask's black grey.
    """
    if size == picture.size:
        return picture
    way = Image.Resampling.BILINEAR if picture.mode == "L" else Image.Resampling.LANCZOS
    return picture.resize(size, way)


def flattened(picture: Image.Image, background: str = "white") -> Image.Image:
    """The picture in RGB; where it is transparent, the background shows, as paper does."""
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    paper = Image.new("RGBA", picture.size, background)
    return Image.alpha_composite(paper, picture).convert("RGB")


def inverted(mask: Image.Image) -> Image.Image:
    """The mask (L) with black and white changed over."""
    return ImageChops.invert(mask)
