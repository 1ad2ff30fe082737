"""Masks that say where a picture is repainted: mode L, white is repainted, grey blends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from dna_pipeline.media.flat import flattened, inverted
from dna_pipeline.media.masks import dilated, eroded

if TYPE_CHECKING:
    from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of a picture, as Pillow crops it."""

_WHITE = 128
"""Least value that counts as white where a mask is grown or shrunk, and for the model."""


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
        return self.blurred(self.sharp(mask))

    def sharp(self, mask: Image.Image) -> Image.Image:
        """The mask with all changes before the blur."""
        if self.invert:
            mask = inverted(mask)
        return _grown(mask, self.grow) if self.grow else mask

    def blurred(self, mask: Image.Image) -> Image.Image:
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


def brightest(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The mask at another width and height, where each pixel is the brightest of those that it
    covers, wholly or in part, so that no white is lost; itself if it has them."""
    if size == mask.size:
        return mask
    values = _brightest_rows(np.asarray(mask), size[1])
    return Image.fromarray(np.ascontiguousarray(_brightest_rows(values.T, size[0]).T))


def in_cells(mask: Image.Image, cell_px: int) -> Image.Image:
    """The mask in black and white, where each square cell is white if any pixel of it is.

    Args:
        mask: its width and height are multiples of `cell_px`.
    """
    width, height = mask.size
    cells = brightest(mask, (width // cell_px, height // cell_px))
    is_white = cells.point([255 if value >= _WHITE else 0 for value in range(256)])
    return is_white.resize(mask.size, Image.Resampling.NEAREST)


def _brightest_rows(values: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """(h, w) in, (count, w) out: the maximum over the rows that each new row covers."""
    height = len(values)
    rows = np.arange(count)
    starts, ends = rows * height // count, ((rows + 1) * height - 1) // count + 1
    if count >= height:  # a new row then covers two rows at most
        return np.maximum(values[starts], values[ends - 1])
    bounds = np.stack([starts, ends], axis=1).ravel()[:-1]  # the last one ends with the rows
    return np.maximum.reduceat(values, bounds, axis=0)[::2]


def _grown(mask: Image.Image, pixels: int) -> Image.Image:
    """The mask with its white parts grown by that many pixels, its soft edges kept under them."""
    values = np.asarray(mask)
    is_white = values >= _WHITE
    if pixels > 0:
        grown = np.where(dilated(is_white, pixels), np.uint8(255), values)
    else:
        grown = np.where(eroded(is_white, -pixels), values, np.uint8(0))
    return Image.fromarray(grown.astype(np.uint8))
