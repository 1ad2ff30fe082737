"""Meshes as pictures, in numpy alone: what is drawn, whence it is seen, and the drawing."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dna_pipeline.media.meshes.mesh import FloatArray, IntArray, Mesh, TexturedMesh, vertex_normals
from dna_pipeline.media.meshes.orientation import linear_to_srgb, srgb_to_linear
from dna_pipeline.media.meshes.raster import rasterize
from dna_pipeline.media.meshes.shading import shade, towards_viewer

SUPERSAMPLING = 2
"""Samples along each side of a pixel."""
FOVY_DEG = 30.0
HALF_FRAME = float(np.tan(np.radians(FOVY_DEG) / 2) * 0.92)
"""How far a mesh may reach from the middle of the picture, at unit depth."""
CENTRING_STEPS = 6
"""Of what has no closed form: to bring a mesh to the middle."""


@dataclass(frozen=True)
class View:
    """A camera's place, axes and field of view.

    axes: right, up and backward as rows (3, 3). shift: what is taken off a point in those axes to
    have it as seen from the camera's place. fovy_deg: the field of view, vertical.
    """

    axes: NDArray[np.float64]
    shift: NDArray[np.float64]
    fovy_deg: float

    def eye(self, vertices: NDArray[Any]) -> NDArray[np.float64]:
        """Points (n, 3) in the camera's axes, from the camera's place."""
        return vertices @ self.axes.T - self.shift

    def project(
        self, eye: NDArray[np.float64], size_px: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixel positions (n, 2) and depths (n,) of points as of `eye`."""
        depth = -eye[:, 2]
        focal_px = size_px / 2 / np.tan(np.radians(self.fovy_deg) / 2)
        return eye[:, :2] * (1, -1) / depth[:, None] * focal_px + size_px / 2, depth


@dataclass(frozen=True)
class Subject:
    """A mesh made ready to be drawn from many sides.

    vertices: (n, 3) float64 around the middle of their bounding box. normals: (n, 3). paint:
    (n, 3) linear colours or, where there is a texture (s, s, 3) uint8 sRGB, (n, 2) places in it.
    closed: no face's inner side can be seen.
    """

    vertices: NDArray[np.float64]
    faces: IntArray
    normals: FloatArray
    paint: FloatArray
    texture: NDArray[np.uint8] | None
    closed: bool = False

    @classmethod
    def of(cls, mesh: Mesh | TexturedMesh) -> Self:
        """Raises ValueError if the mesh has no faces."""
        if len(mesh.faces) == 0:
            raise ValueError("a mesh without faces has no picture")
        middle = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2
        vertices = (mesh.vertices - middle).astype(np.float64)
        if isinstance(mesh, TexturedMesh):
            return cls(vertices, mesh.faces, mesh.normals, mesh.texcoords, mesh.texture)
        normals = vertex_normals(mesh.vertices, mesh.faces)
        return cls(vertices, mesh.faces, normals, srgb_to_linear(mesh.colors), None)

    def albedo(self, paint: NDArray[Any]) -> NDArray[Any]:
        """Linear colours (p, 3) for interpolated paint."""
        return paint if self.texture is None else sample(self.texture, paint)


def sample(texture: NDArray[np.uint8], texcoords: NDArray[Any]) -> FloatArray:
    """Linear light (p, 3) of an sRGB texture (s, s, 3) at places (p, 2), u right and v down.

    Bilinear between the texels' linear values, the edge repeated beyond them.
    """
    place = texcoords * (texture.shape[1], texture.shape[0]) - 0.5
    first = np.floor(place)
    right, down = (place - first).astype(np.float32).T[..., None]
    column, row = first.astype(np.int64).T
    columns = np.clip([column, column + 1], 0, texture.shape[1] - 1)
    rows = np.clip([row, row + 1], 0, texture.shape[0] - 1)
    texels = srgb_to_linear(np.arange(256) / 255)[texture[rows[:, None], columns]]  # (2, 2, p, 3)
    upper, lower = texels[:, 0] * (1 - right) + texels[:, 1] * right
    return upper * (1 - down) + lower * down


def draw(subject: Subject, view: View, size_px: int, supersampling: int) -> FloatArray:
    """Premultiplied linear light and coverage (size, size, 4), each the mean of its samples'."""
    side = size_px * supersampling
    eye = view.eye(subject.vertices)
    positions, depth = view.project(eye, side)
    faces = _front(subject.faces, positions) if subject.closed else subject.faces
    fragments = rasterize(positions, depth, faces, side, side)
    attributes = np.concatenate(
        [subject.normals @ view.axes.T, eye, subject.paint], axis=1, dtype=np.float32
    )
    normal, point, paint = np.split(fragments.interpolate(attributes, faces), [3, 6], axis=1)
    lit = shade(towards_viewer(normal, point), view.axes[:, 2])
    light = np.zeros((side, side, 4), np.float32)
    light[fragments.covered, :3] = subject.albedo(paint) * lit
    light[fragments.covered, 3] = 1
    shares = range(supersampling)
    parts = [light[y::supersampling, x::supersampling] for y in shares for x in shares]
    return np.asarray(sum(parts) / np.float32(supersampling**2))


def _front(faces: IntArray, positions: NDArray[np.float64]) -> IntArray:
    """The faces that turn their outer side to the viewer: clockwise where y points down."""
    x, y = positions.T
    a, b, c = faces.T
    return faces[(x[b] - x[a]) * (y[c] - y[a]) < (x[c] - x[a]) * (y[b] - y[a])]


def on_white(light: FloatArray) -> NDArray[np.uint8]:
    """Premultiplied linear light (h, w, 4) → sRGB (h, w, 3) before a white ground."""
    return np.round(linear_to_srgb(light[..., :3] + 1 - light[..., 3:]) * 255).astype(np.uint8)
