"""A picture of a mesh for the folder: three-quarter view, soft light, transparent ground."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dna_pipeline.tsr.camera import Camera
from dna_pipeline.tsr.mesh import FloatArray, Mesh, vertex_normals
from dna_pipeline.tsr.orientation import linear_to_srgb, srgb_to_linear
from dna_pipeline.tsr.raster import rasterize

_FOVY_DEG = 30.0
_FILL_OF_FRAME = 0.92
_CENTRING_STEPS = 6

# In the camera's axes (right, up, backward): the light stays with the viewer.
_KEY_DIRECTION = (-0.55, 0.70, 0.55)
_FILL_DIRECTION = (0.80, 0.10, 0.60)
_RIM_DIRECTION = (0.35, 0.55, -0.75)
_KEY_COLOR = (0.98, 0.95, 0.90)
_FILL_COLOR = (0.14, 0.16, 0.19)
_RIM_COLOR = (0.35, 0.36, 0.39)
_SKY_COLOR = (0.27, 0.285, 0.31)
_GROUND_COLOR = (0.12, 0.11, 0.10)
_KEY_WRAP = 0.15


@dataclass(frozen=True)
class _View:
    """A mesh as the camera sees it: eye (n, 3) in the camera's axes from the camera's place."""

    eye: NDArray[np.float64]
    axes: NDArray[np.float64]

    def project(self, size_px: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixel positions (n, 2) and depths (n,)."""
        depth = -self.eye[:, 2]
        focal_px = size_px / 2 / np.tan(np.radians(_FOVY_DEG) / 2)
        flipped = self.eye[:, :2] * (1, -1)
        return flipped / depth[:, None] * focal_px + size_px / 2, depth


def render_preview(
    mesh: Mesh,
    size_px: int = 512,
    azimuth_deg: float = 35.0,
    elevation_deg: float = 20.0,
    supersampling: int = 2,
) -> Image.Image:
    """An RGBA picture (size, size) of the mesh, framed to its bounds; the same bytes every time.

    Azimuth 0 is the input view. Raises ValueError if the mesh has no faces.
    """
    if len(mesh.faces) == 0:
        raise ValueError("a mesh without faces has no preview")
    view = _frame(mesh.vertices, Camera(azimuth_deg, elevation_deg))
    side = size_px * supersampling
    positions, depth = view.project(side)
    fragments = rasterize(positions, depth, mesh.faces, side, side)
    attributes = np.concatenate(
        [
            vertex_normals(mesh.vertices, mesh.faces) @ view.axes.T,
            srgb_to_linear(mesh.colors),
            view.eye,
        ],
        axis=1,
    )
    normal, albedo, eye = np.split(fragments.interpolate(attributes, mesh.faces), [3, 6], axis=1)
    light = np.zeros((side, side, 4), np.float32)
    light[fragments.covered, :3] = albedo * _shade(_towards_viewer(normal, eye), view.axes[:, 2])
    light[fragments.covered, 3] = 1
    return _to_image(light, supersampling)


def _frame(vertices: FloatArray, camera: Camera) -> _View:
    """Places the camera so that the mesh fills the frame and stands in its middle.

    A vertex with right, up and backward components (r, u, b) stays in a frame of half-width t
    at unit depth if ±(r - c) / t + b ≤ d, c the camera's shift and d its distance: the extremes
    of both signs give c and the least d, per axis. The axis with room to spare is then centred
    at the other's distance, which has no closed form.
    """
    axes = camera.axes().double().numpy()
    seen = (vertices - (vertices.min(0) + vertices.max(0)) / 2) @ axes.T
    half = np.tan(np.radians(_FOVY_DEG) / 2) * _FILL_OF_FRAME
    high = (seen[:, :2] / half + seen[:, 2:]).max(0)
    low = (-seen[:, :2] / half + seen[:, 2:]).max(0)
    shift, distance = half * (high - low) / 2, ((high + low) / 2).max()
    for _ in range(_CENTRING_STEPS):
        slopes = (seen[:, :2] - shift) / (distance - seen[:, 2:])
        shift += distance * (slopes.max(0) + slopes.min(0)) / 2
    return _View(seen - [*shift, distance], axes)


def _towards_viewer(normal: NDArray[Any], eye: NDArray[Any]) -> NDArray[Any]:
    """Unit normals, turned to the viewer where the inside of an open mesh is seen."""
    away = np.einsum("pk,pk->p", normal, eye) > 0
    length = np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
    return normal * (np.where(away, -1, 1) / length)[:, None]


def _shade(normal: NDArray[Any], up: NDArray[Any]) -> NDArray[Any]:
    """Light (p, 3) on surfaces with normals (p, 3), linear; about 1 where the key falls."""
    sky = (0.5 + 0.5 * normal @ up)[:, None]
    key = np.clip((_toward(normal, _KEY_DIRECTION) + _KEY_WRAP) / (1 + _KEY_WRAP), 0, 1)
    fill = np.clip(_toward(normal, _FILL_DIRECTION), 0, 1)
    grazing = (1 - np.clip(normal[:, 2:], 0, 1)) ** 2
    rim = np.clip(_toward(normal, _RIM_DIRECTION), 0, 1) * grazing
    return (
        sky * np.array(_SKY_COLOR)
        + (1 - sky) * np.array(_GROUND_COLOR)
        + key * np.array(_KEY_COLOR)
        + fill * np.array(_FILL_COLOR)
        + rim * np.array(_RIM_COLOR)
    )


def _toward(normal: NDArray[Any], direction: tuple[float, float, float]) -> NDArray[Any]:
    unit = np.array(direction) / np.linalg.norm(direction)
    return (normal @ unit)[:, None]


def _to_image(light: FloatArray, supersampling: int) -> Image.Image:
    """Premultiplied linear light (s * n, s * n, 4) → an RGBA picture (n, n)."""
    n = light.shape[0] // supersampling
    mean = light.reshape(n, supersampling, n, supersampling, 4).mean(axis=(1, 3))
    alpha = mean[..., 3:]
    color = mean[..., :3] / np.maximum(alpha, 1e-6)
    rgba = np.concatenate([linear_to_srgb(color), alpha], axis=2)
    return Image.fromarray(np.round(rgba * 255).astype(np.uint8))
