"""Masks that say where a picture is repainted: mode L, white is repainted, grey blends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from dna_pipeline.media.flat import flattened, inverted
from dna_pipeline.media.masks import dilated, eroded

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of a picture, as Pillow crops it."""

_WHITE = 128
"""Least value that counts as white where a mask is grown or shrunk."""


@dataclass(frozen=True, slots=True)
class MaskEdit:
    """Changes of a mask, in their order: inverted, grown, blurred.

    Attributes:
        grow: pixels by which the white parts grow on all sides; they shrink by a negative number.
        blur: radius of the Gaussian blur, in pixels.
    """

    invert: bool = False
    grow: int = 0
    blur: float = 0

    def applied(self, mask: Image.Image) -> Image.Image:
        """The changed mask; its argument stays as it is."""
        if self.invert:
            mask = inverted(mask)
        if self.grow:
            mask = _grown(mask, self.grow)
        return mask.filter(ImageFilter.GaussianBlur(self.blur)) if self.blur else mask


def mask_of(picture: Image.Image) -> Image.Image:
    """The mask that a picture (RGB or RGBA) draws; what is transparent in it counts as black."""
    return flattened(picture, "black").convert("L")


def transparency_of(picture: Image.Image) -> Image.Image:
    """The mask of a picture's own transparency: white where nothing of it shows."""
    if picture.mode != "RGBA":
        return Image.new("L", picture.size, 0)
    return inverted(picture.getchannel("A"))


def region_of(mask: Image.Image, padding: int) -> Box | None:
    """The smallest box around all that is not black, with a margin, within the picture; None if
    the mask is black."""
    box = mask.getbbox()
    if box is None:
        return None
    left, top, right, bottom = box
    width, height = mask.size
    return (
        max(left - padding, 0),
        max(top - padding, 0),
        min(right + padding, width),
        min(bottom + padding, height),
    )


def laid_over(drawn: Image.Image, original: Image.Image, mask: Image.Image) -> Image.Image:
    """The redrawn picture where the mask is white, and the original's own bytes where it is black.

    All three have one size, and the pictures one mode.
    """
    return Image.composite(drawn, original, mask)


def _grown(mask: Image.Image, pixels: int) -> Image.Image:
    """The mask with its white parts grown by that many pixels, its soft edges kept under them."""
    values = np.asarray(mask)
    is_white = values >= _WHITE
    if pixels > 0:
        grown = np.where(dilated(is_white, pixels), np.uint8(255), values)
    else:
        grown = np.where(eroded(is_white, -pixels), values, np.uint8(0))
    return Image.fromarray(grown.astype(np.uint8))
