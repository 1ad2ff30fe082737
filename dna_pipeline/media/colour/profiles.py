"""ICC profiles, applied by Little CMS, or computed where its 8 bits would be too few."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image, ImageCms

if TYPE_CHECKING:
    from dna_pipeline.media.colour.colour_space import ColourSpace


def applied(colour: Image.Image, icc: object) -> Image.Image | None:
    """The picture brought from its profile to sRGB; None if there is none that is of use."""
    with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        if (profile := _profile(icc, colour.mode)) is None:
            return None
        mode, convert = profile
        if _changes_nothing(convert, mode):
            return colour.convert("RGB")
        return convert(colour if colour.mode == mode else colour.convert(mode))
    return None


def _profile(icc: object, mode: str) -> tuple[str, Callable[[Image.Image], Image.Image]] | None:
    """The mode that a profile takes, and what converts from it; None if it is for another."""
    if not isinstance(icc, bytes):
        return None
    profile: Any = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    space = profile.profile.xcolor_space.strip()
    if space == "RGB" and mode == "L":
        mode = "RGB"
    if {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}.get(mode) != space:
        return None
    return mode, _transform(profile, mode)


def remarks(icc: object, mode: str) -> list[str]:
    """A sentence for the manifest on a profile that is there and of no use.

    Args:
        mode: the picture's, of 8 or 16 bits.
    """
    if not isinstance(icc, bytes) or not icc or mode == "LAB":
        return []
    grey = mode.startswith(("1", "L", "I;16"))
    with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        if _profile(icc, mode if mode == "CMYK" else "L" if grey else "RGB") is not None:
            return []
    return [
        "The picture's colour profile is damaged, or for other channels than the picture has, and "
        "was ignored."
    ]


def exact_space(icc: object, mode: str, space: ColourSpace | None) -> ColourSpace | None:
    """The colour space that converts samples of 16 bits: a profile's curves and matrix, or `space`.

    None for a profile with tables, which is applied to 8 bits, and for one that changes nothing.
    What is computed has to agree with Little CMS on the whole, which also knows what to do about a
    black that is not 0; single dark values may differ, as 8 bits are too few for them.
    """
    import numpy as np

    from dna_pipeline.media.colour import icc_matrix  # numpy, which most pictures do not need

    with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        if (profile := _profile(icc, mode)) is None:
            return space
        assert isinstance(icc, bytes)
        computed = icc_matrix.colour_space(icc)
        if computed is None or _changes_nothing(profile[1], profile[0]):
            return None
        sample = _sample(profile[0])
        theirs = np.asarray(profile[1](sample), np.float32)
        is_agreed = np.abs(computed.pixels(np.asarray(sample)) - theirs).mean() < 1
        return computed if is_agreed else None
    return space


def lab(image: Image.Image) -> Image.Image:
    """RGB of a picture in CIELAB."""
    return _transform(_builtin_profile("LAB"), "LAB")(image)


def _builtin_profile(space: Literal["LAB", "sRGB"]) -> Any:
    half_typed: Any = ImageCms
    return half_typed.createProfile(space)


def _transform(profile: Any, mode: str) -> Callable[[Image.Image], Image.Image]:
    transform = ImageCms.buildTransform(
        profile,
        _builtin_profile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )

    def convert(image: Image.Image) -> Image.Image:
        result = ImageCms.applyTransform(image, transform)
        assert result is not None
        return result

    return convert


def _changes_nothing(convert: Callable[[Image.Image], Image.Image], mode: str) -> bool:
    """True for the many sRGB profiles, whose rounding would only blur the last bit of each pixel.

    Judged by what the profile does to a sample of colours, since names lie.
    """
    import numpy as np

    if mode == "CMYK":
        return False
    sample = _sample(mode)
    before = np.asarray(sample.convert("RGB"), np.float32)
    return float(np.abs(np.asarray(convert(sample), np.float32) - before).mean()) < 0.5


def _sample(mode: str) -> Image.Image:
    """All greys, or colours from all over the cube."""
    import numpy as np

    if mode == "L":
        return Image.linear_gradient("L")
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3))
