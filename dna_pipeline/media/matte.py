"""Subjects cut out: their colours without the background's, and how much of them there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from dna_pipeline.media.alpha import LEAST_SHARE, TRANSPARENT, Transparency
from dna_pipeline.media.masks import box, ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLEED_PX = 8
"""How far an opaque colour reaches into the soft edge, to take the place of the background's."""

SOLID = 250
"""Least alpha of a pixel whose colour is its own."""
_MOSTLY, _STRAY = 128, 0.02
"""Least alpha of a pixel at the picture's edge that counts, and the share of the edge that they
must exceed to count."""
STRIP_PX = 1024
"""Rows worked on at once: the distances take much memory."""
FILL_PX = 1536
"""Longer pictures are filled from a copy of this longer side, for the same reason."""


def foreground_share(cutout: Image.Image) -> float:
    """Share of the picture that is opaque, soft pixels in part."""
    return float(np.asarray(cutout.getchannel("A"), np.float32).mean() / 255)


def framing(image: Image.Image) -> list[str]:
    """Sentences about what may be wrong with how a subject stands in its picture.

    Too little may be transparent for a cut-out, or the subject may reach an edge with more than a
    stray pixel.
    """
    share = Transparency.of(image).share
    if share < LEAST_SHARE:
        little = f" ({share:.1%} of it is transparent)" if share else ""
        return [
            f"The picture has no transparent background{little}, so all of it was taken for the "
            "subject; remove_background before this stage cuts the subject out."
        ]
    alpha = np.asarray(image.getchannel("A"))
    edges = {"top": alpha[0], "bottom": alpha[-1], "left": alpha[:, 0], "right": alpha[:, -1]}
    reached = [name for name, edge in edges.items() if (edge >= _MOSTLY).mean() > _STRAY]
    if not reached:
        return []
    return [
        f"The subject reaches the picture's edge ({', '.join(reached)}); where the picture cuts "
        "it off, so will the mesh."
    ]


def filled(image: Image.Image) -> Image.Image:
    """RGB of a picture (RGBA) that is not cut out, as it might look without its transparency.

    What is transparent takes the nearest colour beside it, so that a plain backdrop stays plain.
    Soft pixels near opaque ones give way to those as in `cut_out`; others keep their own colour.
    The picture must not be transparent everywhere.
    """
    small = image.copy()
    small.thumbnail((FILL_PX, FILL_PX), Image.Resampling.BOX)
    alpha = np.asarray(small.getchannel("A"))
    shown = _unmixed(np.asarray(small.convert("RGB")), alpha)
    rows, columns = _distances(alpha > min(TRANSPARENT, int(alpha.max()) - 1))[1]
    whole = Image.fromarray(shown[rows, columns]).resize(image.size, Image.Resampling.BILINEAR)
    solid = image.getchannel("A").point([255 * (value >= SOLID) for value in range(256)])
    return Image.composite(image.convert("RGB"), whole, solid)


def cut_out(colour: Image.Image, alpha: Image.Image) -> Image.Image:
    """RGBA with nothing of the background in it.

    A soft pixel's colour is partly the background's: it gives way to that of the nearest opaque
    pixel, the more so the less it covers. What is fully transparent becomes black.
    """
    a, rgb = np.asarray(alpha), np.asarray(colour)
    strips: list[NDArray[np.uint8]] = []
    for top in range(0, len(a), STRIP_PX):
        before = min(top, BLEED_PX)
        rows = slice(top - before, top + STRIP_PX + BLEED_PX)
        strips.append(_unmixed(rgb[rows], a[rows])[before:][:STRIP_PX])
    return Image.fromarray(np.dstack([np.concatenate(strips), a]))


def _unmixed(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w, 3) and (h, w) in; (h, w, 3) out."""
    result = rgb * (alpha > 0)[..., None]
    solid = alpha >= SOLID
    soft = ~solid & (alpha > 0)
    if not (soft.any() and solid.any()):
        return result
    # No pixel's colour comes from farther away than this box reaches.
    inside = box(soft, BLEED_PX + 1)
    solid, soft = solid[inside], soft[inside]
    if solid.any():
        distance, (rows, columns) = _distances(solid)
        soft &= distance <= BLEED_PX
        colours, part = rgb[inside], result[inside]
        own = ((alpha[inside][soft] / np.float32(255)) ** 2)[:, None]
        near = colours[rows[soft], columns[soft]]
        part[soft] = np.round(own * colours[soft] + (1 - own) * near)
    return result


def _distances(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Of each pixel (h, w), the distance to the nearest one in the mask, and that one's row and
    column (2, h, w)."""
    return ndimage().distance_transform_edt(~mask, return_indices=True)
