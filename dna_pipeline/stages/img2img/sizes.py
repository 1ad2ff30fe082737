"""Size and transparency of a picture, before and after the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dna_pipeline.providers.stable_diffusion.tiles import LATENT_PX

if TYPE_CHECKING:
    from PIL import Image

MIN_SIDE_PX = 64
INVISIBLE = (
    "The input is fully transparent and alpha: keep was asked for, so nothing of the result shows."
)


def with_alpha(result: Image.Image, alpha: Image.Image, remarks: list[str]) -> Image.Image:
    """The redrawn picture (RGB) with the input's alpha (L), which is brought to its size: RGBA.

    The model saw the subject on white, so its soft pixels are mixed with white. They take the
    colour of the opaque pixels beside them, as in a cut-out, so that no white rim shows on another
    background.
    """
    from PIL import Image

    from dna_pipeline.media.matte import cut_out

    if not alpha.getbbox():
        remarks.append(INVISIBLE)
    return cut_out(result, alpha.resize(result.size, Image.Resampling.LANCZOS))


def fitted(image: Image.Image, max_size: int) -> Image.Image:
    """The picture at the size that the model works with."""
    from dna_pipeline.media.flat import resized

    return resized(image, fitted_size(*image.size, max_size))


def size_remarks(size: tuple[int, int], max_size: int) -> list[str]:
    """A sentence that says to which size a picture of that size was brought, and why; none if the
    picture keeps its size."""
    result = fitted_size(*size, max_size)
    if result == size:
        return []
    over, under = _scale(*size, max_size)
    long_enough = [side for side in size if side * over >= MIN_SIDE_PX * under]
    is_limited, is_stretched = over == max_size, len(long_enough) < 2
    is_rounded = any(side * over % (under * LATENT_PX) for side in long_enough)
    reasons = {
        f"max_size is {max_size}": is_limited,
        f"sides have at least {MIN_SIDE_PX} px": is_stretched or over > under,
        f"sides are multiples of {LATENT_PX}": is_rounded,
    }
    shape = ", of another shape" if is_stretched else ""
    *others, last = (reason for reason, holds in reasons.items() if holds)
    why = ", and ".join([", ".join(others), last] if others else [last])
    before, after = (f"{width} x {height} px" for width, height in (size, result))
    return [f"The picture of {before} became {after}{shape}: {why}."]


def tile_remarks(size: tuple[int, int], max_size: int, tile: int | None) -> list[str]:
    """A sentence if a picture of that size is larger than a tile, but is not divided since it is
    scaled down before."""
    if tile is None or max_size > tile or max(size) <= max_size:
        return []
    return [
        f"tile: {tile} divided nothing, since max_size is {max_size}: raise max_size to redraw "
        "more pixels."
    ]


def fitted_size(width: int, height: int, max_size: int) -> tuple[int, int]:
    """Width and height for the model, multiples of 8 of at least 64.

    Scaled down so that the longer side is at most `max_size`, or up so that the shorter is at
    least 64; then each is floored. Only a picture too narrow for both bounds loses its shape.
    """
    over, under = _scale(width, height, max_size)

    def side(length: int) -> int:
        # In whole numbers: 1000 * (768 / 1000) can be a hair less than 768, and lose 8 pixels.
        return max(length * over // under // LATENT_PX * LATENT_PX, MIN_SIDE_PX)

    return side(width), side(height)


def enlarged_size(width: int, height: int, max_size: int) -> tuple[int, int]:
    """Width and height for the model of a part of a picture: the longer side comes to about
    `max_size`; multiples of 8 of at least 64."""
    longer = max(width, height)

    def side(length: int) -> int:
        return max(length * max_size // longer // LATENT_PX * LATENT_PX, MIN_SIDE_PX)

    return side(width), side(height)


def _scale(width: int, height: int, max_size: int) -> tuple[int, int]:
    """Factor from a picture's size to the model's before rounding, as a fraction."""
    longer, shorter = max(width, height), min(width, height)
    scale = max((1, 1), (MIN_SIDE_PX, shorter), key=_ratio)
    return min((max_size, longer), scale, key=_ratio)


def _ratio(fraction: tuple[int, int]) -> float:
    return fraction[0] / fraction[1]
