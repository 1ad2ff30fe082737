"""Compare the shape of a mask with that of its picture."""

from __future__ import annotations

Size = tuple[int, int]
"""Width and height in pixels."""

LARGEST_DIFFERENCE = 0.01
"""Part of its height by which a mask may be too high or too low for the shape of its picture."""


def mismatch(mask: Size, picture: Size) -> str | None:
    """A sentence about a mask that differs in shape from its picture by more than rounding
    explains; None if it can be scaled.

    Such a mask is that of another picture, or was cropped, and stretching would put it in the wrong
    place.
    """
    height = mask[0] * picture[1] / picture[0]
    if abs(mask[1] - height) <= max(1, LARGEST_DIFFERENCE * height):
        return None
    return f"the mask has {in_words(mask)}, the picture {in_words(picture)}"


def in_words(size: Size) -> str:
    return f"{size[0]} x {size[1]} px"
