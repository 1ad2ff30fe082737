"""From TripoSR's conventions to glTF's: axes and colour."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dna_pipeline.media.meshes.mesh import FloatArray


def to_gltf(vectors: FloatArray) -> FloatArray:
    """Points or normals (n, 3) in TripoSR's axes → (n, 3) in glTF's; winding stays.

    (x, y, z) → (y, z, x). TripoSR: z up, seen from +x, image right +y. glTF 2.0, section 3.4: y up,
    front +z, so that image right is +x.
    """
    return np.ascontiguousarray(vectors[:, [1, 2, 0]])


def to_z_up(vectors: FloatArray) -> FloatArray:
    """Points or normals (n, 3) in TripoSR's axes → (n, 3) with z up and the front at -y.

    As Blender has it: (x, y, z) → (y, -x, z), so that image right is +x; winding stays.
    """
    y, minus_x, z = vectors[:, 1], -vectors[:, 0], vectors[:, 2]
    return np.stack([y, minus_x, z], axis=1)


def srgb_to_linear(srgb: NDArray[Any]) -> FloatArray:
    """Display-referred sRGB in [0, 1] → linear light in [0, 1] (IEC 61966-2-1), float32."""
    value = np.clip(srgb, 0.0, 1.0).astype(np.float64)
    curve = ((value + 0.055) / 1.055) ** 2.4
    return np.where(value <= 0.04045, value / 12.92, curve).astype(np.float32)


def linear_to_srgb(linear: NDArray[Any]) -> FloatArray:
    """Linear light in [0, 1] → display-referred sRGB in [0, 1] (IEC 61966-2-1), float32."""
    value = np.clip(linear, 0.0, 1.0).astype(np.float64)
    curve = 1.055 * value ** (1 / 2.4) - 0.055
    return np.where(value <= 0.0031308, value * 12.92, curve).astype(np.float32)
