"""A picture of a mesh for the folder: three-quarter view, soft light, transparent ground."""

from dataclasses import replace

import numpy as np
from PIL import Image

from dna_pipeline.media.meshes.camera import Camera
from dna_pipeline.media.meshes.drawing import (
    CENTRING_STEPS,
    FOVY_DEG,
    HALF_FRAME,
    SUPERSAMPLING,
    Subject,
    View,
    draw,
)
from dna_pipeline.media.meshes.mesh import FloatArray, Mesh, TexturedMesh
from dna_pipeline.media.meshes.orientation import linear_to_srgb


def render_preview(
    mesh: Mesh | TexturedMesh,
    size_px: int = 512,
    azimuth_deg: float = 35.0,
    elevation_deg: float = 20.0,
    *,
    closed: bool = False,
) -> Image.Image:
    """An RGBA picture (size, size) of the mesh, framed to its bounds; the same bytes every time.

    Azimuth 0 is the input view. `closed`: the mesh is watertight, so that no inner side of a face
    can be seen; half of the faces need not be drawn then. Raises ValueError if the mesh has no
    faces.
    """
    subject = replace(Subject.of(mesh), closed=closed)
    view = _frame(subject, Camera(azimuth_deg, elevation_deg))
    return _to_image(draw(subject, view, size_px, SUPERSAMPLING))


def _frame(subject: Subject, camera: Camera) -> View:
    """Places the camera so that the mesh fills the frame and stands in its middle.

    A vertex with right, up and backward components (r, u, b) stays in a frame of half-width t
    at unit depth if ±(r - c) / t + b ≤ d, c the camera's shift and d its distance: the extremes
    of both signs give c and the least d, per axis. The axis with room to spare is then centred
    at the other's distance, which has no closed form.
    """
    axes = camera.axes().double().numpy()
    in_camera = np.ascontiguousarray((subject.vertices @ axes.T).T)
    plane, backward = in_camera[:2], in_camera[2]  # (2, n) and (n,)
    high = (plane / HALF_FRAME + backward).max(1)
    low = (-plane / HALF_FRAME + backward).max(1)
    shift, distance = HALF_FRAME * (high - low) / 2, ((high + low) / 2).max()
    depth = distance - backward
    for _ in range(CENTRING_STEPS):
        slopes = (plane - shift[:, None]) / depth
        shift += distance * (slopes.max(1) + slopes.min(1)) / 2
    return View(axes, np.array([*shift, distance]), FOVY_DEG)


def _to_image(light: FloatArray) -> Image.Image:
    """Premultiplied linear light (n, n, 4) → an RGBA picture (n, n)."""
    alpha = light[..., 3:]
    color = light[..., :3] / np.maximum(alpha, 1e-6)
    rgba = np.concatenate([linear_to_srgb(color), alpha], axis=2)
    return Image.fromarray(np.round(rgba * 255).astype(np.uint8))
