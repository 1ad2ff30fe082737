"""Subjects cut out: their colours without the background's, and how much of them there is."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLEED_PX = 8
"""How far an opaque colour reaches into the soft edge, to take the place of the background's."""

SOLID = 250
"""Least alpha of a pixel whose colour is its own."""
_NOTHING = 0.0005
"""Share of a picture that does not count."""
_MOSTLY, _STRAY = 128, 0.02
"""Least alpha of a pixel at the picture's edge that counts, and the share of the edge that they
must exceed to count."""
STRIP_PX = 1024
"""Rows worked on at once: the distances take much memory."""


def foreground_share(cutout: Image.Image) -> float:
    """Share of the picture that is opaque, soft pixels in part."""
    return float(np.asarray(cutout.getchannel("A"), np.float32).mean() / 255)


def framing(image: Image.Image) -> list[str]:
    """What may be wrong with how a subject stands in its picture, in sentences.

    Nothing may be transparent, or the subject may reach an edge with more than a stray pixel.
    """
    if image.mode != "RGBA" or foreground_share(image) > 1 - _NOTHING:
        return [
            "The picture has no transparent background, so all of it was taken for the subject; "
            "remove_background before this stage cuts the subject out."
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
    ndimage: Any = importlib.import_module("scipy.ndimage")
    mixed, solid = rgb.astype(np.float32), alpha >= SOLID
    if solid.any():
        distance, (rows, columns) = ndimage.distance_transform_edt(~solid, return_indices=True)
        own = np.where(distance > BLEED_PX, 1, (alpha / np.float32(255)) ** 2)[..., None]
        mixed = own * mixed + (1 - own) * mixed[rows, columns]
    return np.where((alpha > 0)[..., None], np.round(mixed), 0).astype(np.uint8)
