"""Masks: which pixels, as (h, w) bool."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]


def ndimage() -> Any:
    """`scipy.ndimage`: loaded when first used, and without types of its own."""
    return importlib.import_module("scipy.ndimage")


def eroded(mask: Mask, radius: int) -> Mask:
    """The pixels of a mask with no pixel outside of it within `radius`. What lies beyond the
    picture counts as inside."""
    return ~dilated(~mask, radius)


def dilated(mask: Mask, radius: int) -> Mask:
    """The pixels within `radius` of a pixel of the mask, Euclidean distance.

    A disc is a pile of rows: the mask is widened along x once for each width of them, by counts
    from the left, and the results are shifted along y. For small radii that takes a fraction of the
    time of a distance transform.
    """
    height, width = mask.shape
    counts = np.zeros((height, width + 2 * radius + 1), np.int32)
    np.cumsum(mask, axis=1, out=counts[:, radius + 1 : radius + 1 + width])
    counts[:, radius + 1 + width :] = counts[:, radius + width : radius + 1 + width]
    result = np.zeros_like(mask)
    for row in range(min(radius, height - 1) + 1):
        reach = int((radius**2 - row**2) ** 0.5)
        first, last = radius - reach, radius + reach + 1
        wide = counts[:, last : last + width] > counts[:, first : first + width]
        result[row:] |= wide[: height - row]
        if row:
            result[:-row] |= wide[row:]
    return result


def touching(mask: Mask, seed: Mask) -> Mask:
    """The connected parts of a mask that share a pixel with `seed`."""
    labels, count = _labels(mask)
    keep = np.zeros(count + 1, bool)
    keep[labels[mask & seed]] = True
    keep[0] = False
    return keep[labels]


def large_parts(mask: Mask, min_area: float) -> Mask:
    """The connected parts, diagonals included, of at least that share of the picture."""
    labels, _ = _labels(mask, np.ones((3, 3)))
    areas = np.bincount(labels.ravel())
    keep = areas >= max(1.0, min_area * mask.size)
    keep[0] = False
    return keep[labels]


def box(mask: Mask, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around a mask that is not empty, with a margin."""
    bounds: list[slice] = []
    for axis in (1, 0):
        places = np.flatnonzero(mask.any(axis=axis))
        bounds.append(slice(max(int(places[0]) - margin, 0), int(places[-1]) + 1 + margin))
    return bounds[0], bounds[1]


def _labels(mask: Mask, structure: Any = None) -> tuple[NDArray[np.int32], int]:
    return cast("tuple[NDArray[np.int32], int]", ndimage().label(mask, structure))
