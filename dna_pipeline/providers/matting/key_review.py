"""Measures of a keyed matte that show when part of the backdrop was kept or the subject was torn.

A clean cut-out's outline runs along an edge of the picture, is little longer than a smoothed one,
and meets the picture's edge on few sides. All measures are taken on a copy of at most `REVIEW_PX`,
where the numbers below mean about the same for every picture. They were set by clean cut-outs
(renders, product shots, hair, trees, noise) and by bad ones (skies, street scenes, shells of grey
things on grey).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from dna_pipeline.media.masks import box, ndimage
from dna_pipeline.providers.matting.cielab import slope, to_lab

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

REVIEW_PX = 512
FAINT_SLOPE = 0.5
"""Change of colour, CIELAB units a pixel, below which the picture has no edge."""
MOST_FAINT = 0.1
"""Share of the outline that may follow no edge."""
LONG_RATIO, RAGGED_RATIO, RAGGED_PARTS = 3.0, 1.8, 60
"""An outline counts as torn if it is `LONG_RATIO` times as long as a smoothed one, or
`RAGGED_RATIO` times if the matte has at least `RAGGED_PARTS` parts and holes."""
SMOOTHING_PX = 3.0
FILTERS_PX = 12
"""How far from a pixel the filters reach that measure the slope there."""
MOST_SHOWN = 10.0
SIDES = ("top", "bottom", "left", "right")
MANY_SIDES, MUCH_OF_SIDE, LITTLE_OF_SIDE = 3, 0.3, 0.1
"""A matte is doubtful if it covers at least `MUCH_OF_SIDE` of `MANY_SIDES` sides of the picture, or
at least `LITTLE_OF_SIDE` of every side."""


def remarks(image: Image.Image, alpha: Image.Image) -> list[str]:
    """One sentence with all that looks wrong; none for a clean cut-out.

    Args:
        image, alpha: RGB and L of one size.
    """
    size = _review_size(image.size)
    subject = np.asarray(alpha.resize(size, Image.Resampling.BOX)) >= 128
    if not subject.any() or subject.all():
        return []
    doubts = [
        *_kept_sides(subject),
        *_faint_outline(image.resize(size, Image.Resampling.BOX), subject),
        *_torn_outline(subject),
    ]
    if not doubts:
        return []
    return [
        f"The cut-out may hold part of the backdrop or lack part of the subject: "
        f"{'; '.join(doubts)}. Look at the matte; a rembg model copes with such pictures."
    ]


def _review_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, REVIEW_PX / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _kept_sides(subject: Mask) -> list[str]:
    """A sentence part where the subject covers much of most sides of the picture."""
    edges = (subject[0], subject[-1], subject[:, 0], subject[:, -1])
    shares = {name: float(edge.mean()) for name, edge in zip(SIDES, edges, strict=True)}
    much = [name for name, share in shares.items() if share >= MUCH_OF_SIDE]
    if len(much) < MANY_SIDES and min(shares.values()) < LITTLE_OF_SIDE:
        return []
    covered = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share)
    return [f"it covers much of the picture's sides ({covered})"]


def _faint_outline(image: Image.Image, subject: Mask) -> list[str]:
    """A sentence part where the outline runs through smooth parts of the picture."""

    inside = box(subject, FILTERS_PX)
    change = slope(to_lab(np.asarray(image)[inside]), 2.0)
    subject = subject[inside]
    outline = subject & ndimage().binary_dilation(~subject)
    share = float((ndimage().maximum_filter(change, 3)[outline] < FAINT_SLOPE).mean())
    return [f"{share:.0%} of its outline follows no edge"] if share > MOST_FAINT else []


def _torn_outline(subject: Mask) -> list[str]:
    """A sentence part where the outline is ragged or in many pieces."""
    smooth = ndimage().gaussian_filter(subject.astype(np.float32), SMOOTHING_PX) > 0.5
    ratio = _outline_px(subject) / max(_outline_px(smooth), 1)
    parts = int(ndimage().label(subject, np.ones((3, 3)))[1] + ndimage().label(~subject)[1])
    if ratio <= RAGGED_RATIO or (ratio <= LONG_RATIO and parts < RAGGED_PARTS):
        return []
    times = f"{ratio:.1f}" if ratio < MOST_SHOWN else f"more than {MOST_SHOWN:.0f}"
    return [f"its outline is {times} times as long as a smoothed one, in {parts} parts and holes"]


def _outline_px(mask: Mask) -> int:
    return int((mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum())
