"""The place and size of a mesh in a scene, computed from the box that TripoSR models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dna_pipeline.media.meshes.mesh import FloatArray

Origin = Literal["base", "center"]


@dataclass(frozen=True)
class Placement:
    """A point p of TripoSR's box goes to factor · p + offset, in TripoSR's axes."""

    factor: float
    offset: tuple[float, float, float]

    def apply(self, vertices: FloatArray) -> FloatArray:
        """Vertices (n, 3), each rounded once."""
        return (vertices * np.float64(self.factor) + np.array(self.offset)).astype(np.float32)


def place(vertices: FloatArray, size: float | None, origin: Origin | None) -> Placement:
    """The placement that brings a mesh to its place, by its bounding box.

    size: of the longest side of the bounding box, metres; None leaves the size as it is.
    origin: what comes to (0, 0, 0): `base` the middle of the footprint, at the height of the
    lowest point, `center` the middle of the bounding box, None the middle of TripoSR's box.
    """
    low, high = (
        corner.astype(np.float64) for corner in (vertices.min(axis=0), vertices.max(axis=0))
    )
    longest = float((high - low).max())
    factor = 1.0 if size is None or longest == 0 else size / longest
    middle = (low + high) / 2
    if origin is None:
        middle[:] = 0
    elif origin == "base":
        middle[2] = low[2]  # TripoSR's z is up
    x, y, z = (-factor * middle + 0.0).tolist()
    return Placement(factor, (x, y, z))
