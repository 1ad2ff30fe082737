"""From any picture to the square RGB picture that the network expects."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_GREY = 0.5
_UNMATTED_SIDE_PX = 512
_MAX_SIDE_PX = 8192
"""Of the square: the network sees it at 512 px, so that a larger one would only fill memory."""
_MAX_ASPECT = 16
"""Of a picture whose middle is cut out, for the same reason."""
_STRIP_PX = 256


class EmptyForeground(ValueError):
    """The matte leaves nothing of the picture."""


def condition(image: Image.Image, foreground_ratio: float = 0.85) -> Image.Image:
    """`place_foreground` for a picture with transparency, else `crop_square`."""
    if has_matte(image):
        return place_foreground(image, foreground_ratio)
    return crop_square(image)


def has_matte(image: Image.Image) -> bool:
    """True if any pixel is not fully opaque."""
    if not image.has_transparency_data:
        return False
    return _rgba(image).getchannel("A").getextrema() != (255, 255)


def place_foreground(image: Image.Image, foreground_ratio: float = 0.85) -> Image.Image:
    """Centres what the matte shows on a grey square, RGB.

    foreground_ratio: the longer side of the object by the side of the square, in (0, 1].
    Pixel for pixel as TripoSR does it: the crop to alpha > 0 loses its last row and column, and
    eight bits come by truncation. An object that would need a square above 8192 px is made
    smaller first. Raises EmptyForeground.
    """
    if not 0 < foreground_ratio <= 1:
        raise ValueError(f"foreground_ratio must be in (0, 1], not {foreground_ratio}")
    crop = _fitted(_crop(_rgba(image)), int(_MAX_SIDE_PX * foreground_ratio))
    side = max(crop.size)
    return _on_grey(np.asarray(crop), side, int(side / foreground_ratio))


def crop_square(image: Image.Image) -> Image.Image:
    """The middle of a picture without a matte, RGB, 512 px square."""
    rgb = _shortened(image).convert("RGB")
    scale = _UNMATTED_SIDE_PX / min(rgb.size)
    width, height = (max(_UNMATTED_SIDE_PX, round(side * scale)) for side in rgb.size)
    resized = rgb.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - _UNMATTED_SIDE_PX) // 2, (height - _UNMATTED_SIDE_PX) // 2
    return resized.crop((left, top, left + _UNMATTED_SIDE_PX, top + _UNMATTED_SIDE_PX))


def _rgba(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGBA" else image.convert("RGBA")


def _shortened(image: Image.Image) -> Image.Image:
    """The middle part of a picture that is far longer than wide; other pictures as they are."""
    longest = _MAX_ASPECT * min(image.size)
    if max(image.size) <= longest:
        return image
    cut_x, cut_y = (max(0, side - longest) // 2 for side in image.size)
    return image.crop((cut_x, cut_y, image.width - cut_x, image.height - cut_y))


def _crop(rgba: Image.Image) -> Image.Image:
    box = rgba.getchannel("A").getbbox()
    if box is None:
        raise EmptyForeground("every pixel is fully transparent")
    left, top, right, bottom = box
    if right - left == 1 or bottom - top == 1:
        raise EmptyForeground("what is not transparent is only one pixel wide or high")
    return rgba.crop((left, top, right - 1, bottom - 1))


def _fitted(image: Image.Image, longest_px: int) -> Image.Image:
    """Made smaller if its longer side is above that."""
    scale = longest_px / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, int(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def _on_grey(rgba: NDArray[np.uint8], square: int, side: int) -> Image.Image:
    """Composites (h, w, 4) in the middle of (side, side) grey.

    First centred in a square, then that in the larger one; the odd pixel goes below and right.
    """
    height, width = rgba.shape[:2]
    margin = (side - square) // 2
    top, left = (square - height) // 2 + margin, (square - width) // 2 + margin
    picture = np.full((side, side, 3), int(_GREY * 255), np.uint8)
    for row in range(0, height, _STRIP_PX):  # floats take four times the memory
        unit = rgba[row : row + _STRIP_PX].astype(np.float32) / 255.0
        color, alpha = unit[..., :3], unit[..., 3:]
        composite = color * alpha + (1 - alpha) * _GREY
        place = picture[top + row : top + row + len(unit), left : left + width]
        place[:] = (composite * 255.0).astype(np.uint8)
    return Image.fromarray(picture)
