"""The demo's small TripoSR: finer than the other, and fitted to the picture of the demo."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiny_models.triposr import HALF_DEPTH, SCALE, Detail, make_triposr

Floats = NDArray[np.float64]

PATCHES, TOKENS = 56, 32
BLURS = (0.6, 2.0, 5.0)
"""Deviations, in 32nds of the picture."""
GRID = 128
"""Points along a side of the picture, for the fit."""
SUBJECT_SHARE = 0.85
"""Part of the frame that the subject fills, as the stage `triposr` places it."""
OUTSIDE, NEAR = -0.2, 6
"""Thickness that is wanted outside of the subject, less than none, so that its outline stands; and
how many points from it."""


def make_demo_triposr(folder: Path, silhouette: Path) -> None:
    """Write a TripoSR folder whose shapes are about as deep as they are wide.

    Args:
        silhouette: a picture that is white where the subject is; the weights of the blurs are
            fitted to it.
    """
    weights, rim = fitted_thickness(framed(silhouette))
    blurs = tuple(zip(BLURS, weights, strict=True))
    detail = Detail(
        PATCHES, TOKENS, layers=1, image_heads=1, blurs=blurs, rim=rim, by_quarters=True
    )
    make_triposr(folder, detail)


def framed(silhouette: Path) -> Floats:
    """The silhouette (GRID, GRID), placed as the subject of a picture is; 0 to 1."""
    picture = Image.open(silhouette).convert("L")
    box = picture.getbbox()
    assert box is not None
    subject = picture.crop(box)
    side = round(max(subject.size) / SUBJECT_SHARE)
    frame = Image.new("L", (side, side))
    frame.paste(subject, ((side - subject.width) // 2, (side - subject.height) // 2))
    return np.asarray(frame.resize((GRID, GRID), Image.Resampling.BOX), np.float64) / 255


def fitted_thickness(silhouette: Floats) -> tuple[list[float], float]:
    """Weights of the blurs, and the sum of them at the outline.

    The depth of a round body is that of a circle across each of its strips. Half its square, u,
    solves the equation of a membrane under pressure, -laplacian u = 1, with u = 0 at the outline,
    which also makes sense for any other outline. Least squares fit a sum of blurs to it.
    """
    filters: Any = import_module("scipy.ndimage")
    inside = silhouette > 0.5
    unit = SCALE * 2 / GRID  # side of a point, in half sides of the box
    target = 2 * _membrane(inside) * (unit / HALF_DEPTH) ** 2
    target[~inside] = OUTSIDE
    blurred = [filters.gaussian_filter(silhouette, sigma * GRID / 32) for sigma in BLURS]
    terms = np.stack([*blurred, -np.ones_like(silhouette)], axis=-1)
    near = filters.binary_dilation(inside, iterations=NEAR)
    solved = np.linalg.lstsq(terms[near], target[near], rcond=None)[0]
    return [float(value) for value in solved[:-1]], float(solved[-1])


def _membrane(inside: NDArray[np.bool_]) -> Floats:
    """Solve -laplacian u = 1, one point being one unit wide, u = 0 outside of `inside`."""
    sparse: Any = import_module("scipy.sparse")
    solver: Any = import_module("scipy.sparse.linalg")
    line = sparse.diags([-1.0, 2.0, -1.0], [-1, 0, 1], (GRID, GRID))
    eye = sparse.identity(GRID)
    laplacian = (sparse.kron(line, eye) + sparse.kron(eye, line)).tocsr()
    where = np.flatnonzero(inside)
    result = np.zeros(GRID * GRID)
    result[where] = solver.spsolve(laplacian[where][:, where].tocsc(), np.ones(len(where)))
    return result.reshape(GRID, GRID)
