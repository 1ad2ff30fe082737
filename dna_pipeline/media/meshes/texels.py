"""The place on the surface of each texel of a layout: by OpenGL, or by the rasteriser in numpy.

Both are given corners on the grid of 1/256 texel that OpenGL itself computes on, so that they
cover the same texels, but for the few whose centre lies on an outline: OpenGL leaves it to the
driver which of the two faces has those, and there is none beyond the chart's rim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dna_pipeline.media.meshes.gl import NoOpenGL, OpenGLError, check, context
from dna_pipeline.media.meshes.mesh import FloatArray, IntArray
from dna_pipeline.media.meshes.raster import rasterize

_SUBTEXELS = 256

_VERTEX_SHADER = """
#version 330
in vec2 place;
in vec3 position;
out vec3 point;
uniform float side;
void main() {
    point = position;
    gl_Position = vec4(place * (2.0 / side) - 1.0, 0.0, 1.0);
}
"""
_FRAGMENT_SHADER = """
#version 330
in vec3 point;
out vec4 texel;
void main() { texel = vec4(point, 1.0); }
"""


@dataclass(frozen=True)
class Texels:
    """The texels that have a face: those whose centre lies within its outline.

    covered: (size, size), row 0 at v = 0. positions: (n, 3) float32, of the covered ones in
    row-major order. fault: what went wrong with the OpenGL that is there, or None.
    """

    covered: NDArray[np.bool_]
    positions: FloatArray
    fault: str | None = None


def locate(vertices: FloatArray, texcoords: FloatArray, faces: IntArray, size_px: int) -> Texels:
    """By OpenGL where there is one that can do it, else by the CPU.

    vertices: (n, 3). texcoords: (n, 2) in [0, 1]; faces do not overlap there.
    """
    try:
        return locate_on_gpu(vertices, texcoords, faces, size_px)
    except (NoOpenGL, OpenGLError) as error:
        texels = locate_on_cpu(vertices, texcoords, faces, size_px)
        return texels if isinstance(error, NoOpenGL) else replace(texels, fault=str(error))


def locate_on_cpu(
    vertices: FloatArray, texcoords: FloatArray, faces: IntArray, size_px: int
) -> Texels:
    """As `locate`, in numpy."""
    places = _snapped(texcoords, size_px)
    fragments = rasterize(places, np.ones(len(places)), faces, size_px, size_px)
    return Texels(fragments.covered, fragments.interpolate(vertices, faces).astype(np.float32))


def locate_on_gpu(
    vertices: FloatArray, texcoords: FloatArray, faces: IntArray, size_px: int
) -> Texels:
    """As `locate`, by OpenGL. Raises NoOpenGL; OpenGLError, also if no texel has a face."""
    corners = np.concatenate([_snapped(texcoords, size_px), vertices], axis=1).astype(np.float32)
    with context() as opened:
        texels = _drawn(opened, corners, faces, size_px)
        covered = texels[..., 3] > 0
        if not covered.any():
            raise OpenGLError("nothing was drawn")
    return Texels(covered, texels[covered][:, :3])


def _drawn(
    context: Any, corners: NDArray[np.float32], faces: IntArray, size_px: int
) -> NDArray[np.float32]:
    """Position and coverage of each texel (size, size, 4), row 0 at place y = 0.

    corners: (n, 5), places in texels and positions. The context's methods are partly untyped.
    """
    program = context.program(vertex_shader=_VERTEX_SHADER, fragment_shader=_FRAGMENT_SHADER)
    program["side"] = float(size_px)
    content = [(context.buffer(corners), "2f 3f", "place", "position")]
    array = context.vertex_array(program, content, context.buffer(faces.astype(np.int32)))
    target = context.framebuffer([context.texture((size_px, size_px), 4, dtype="f4")])
    target.use()
    target.clear()
    check(context)  # a driver may crash on what it has no memory for
    array.render()
    data = target.read(components=4, dtype="f4")
    check(context)
    return np.frombuffer(data, np.float32).reshape(size_px, size_px, 4)


def _snapped(texcoords: FloatArray, size_px: int) -> NDArray[np.float64]:
    return np.rint(texcoords.astype(np.float64) * (size_px * _SUBTEXELS)) / _SUBTEXELS
