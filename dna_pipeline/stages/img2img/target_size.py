"""Sizes that people choose for a result, like 512x768, and how a picture gets there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dna_pipeline.stages.img2img.working_size import Size

if TYPE_CHECKING:
    from PIL import Image

Resize = Literal["crop", "stretch", "pad"]

LEAST_PX, MOST_PX = 16, 4096
"""Shortest and longest side that may be chosen."""

SIZE_PATTERN = r"^(fit|input|[1-9]\d{1,3}x[1-9]\d{1,3})$"
EXPECTED = "should be fit, input, or width and height like 512x768"


@dataclass(frozen=True, slots=True)
class TargetSize:
    """A width and height in pixels, and what is done with a picture of another shape.

    Attributes:
        resize: crop: it is cut evenly at two sides; stretch: it loses its shape; pad: its edges are
            repeated until it fills the size.
    """

    size: Size
    resize: Resize

    def fitted(self, picture: Image.Image) -> Image.Image:
        """The picture or mask (L, RGB or RGBA) at that size; itself if it has it."""
        from dna_pipeline.media import flat

        if picture.size == self.size:
            return picture
        if self.resize == "crop":
            return flat.resized(picture, self.size, _middle(picture.size, self.size))
        if self.resize == "pad":
            return flat.extended(flat.resized(picture, _inner(picture.size, self.size)), self.size)
        return flat.resized(picture, self.size)


def parse(text: str) -> Size | None:
    """Width and height of a text like `512x768`; None for the words that `size` knows besides.

    Raises ValueError for any other text, and for sides out of range.
    """
    if not re.fullmatch(SIZE_PATTERN, text):
        raise ValueError(EXPECTED)
    if not text[0].isdigit():
        return None
    width, height = map(int, text.split("x"))
    if not LEAST_PX <= min(width, height) <= max(width, height) <= MOST_PX:
        raise ValueError(f"{EXPECTED}; sides have {LEAST_PX} to {MOST_PX} px")
    return width, height


def _middle(size: Size, target: Size) -> tuple[float, float, float, float]:
    """The largest part in the middle of a picture that has the shape of the target."""
    width = min(size[0], size[1] * target[0] / target[1])
    height = min(size[1], size[0] * target[1] / target[0])
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def _inner(size: Size, target: Size) -> Size:
    """The largest size of a picture's shape that fits into the target."""
    scale = min(target[0] / size[0], target[1] / size[1])
    width, height = (max(round(side * scale), 1) for side in size)
    return min(width, target[0]), min(height, target[1])
