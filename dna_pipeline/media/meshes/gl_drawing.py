"""Meshes as pictures, by OpenGL: what `drawing` draws, within rounding, for many views at once."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dna_pipeline.media.meshes.drawing import SUPERSAMPLING, Subject, View
from dna_pipeline.media.meshes.gl import check
from dna_pipeline.media.meshes.gl import context as opengl
from dna_pipeline.media.meshes.shading import GLSL

if TYPE_CHECKING:
    import moderngl

_SRGB8 = 0x8C41
_SAMPLES_UNIT = 1
"""Not the mesh's own unit 0: no texture may be in reach of a program that draws into it."""

_VERTEX = """
#version 330
uniform mat3 axes;
uniform vec3 shift;
uniform float focal;   // of a picture from -1 to 1
uniform vec2 range;    // nearest and farthest depth
in vec3 position;
in vec3 normal;
in vec3 paint;
out vec3 turned;
out vec3 eye;
out vec3 paint_here;
void main() {
    eye = axes * position - shift;
    turned = axes * normal;
    paint_here = paint;
    float depth = -eye.z;
    float z = (depth * (range.y + range.x) - 2 * range.x * range.y) / (range.y - range.x);
    gl_Position = vec4(eye.x * focal, -eye.y * focal, z, depth);  // the first row is read first
}
"""

_FRAGMENT = f"""
#version 330
uniform mat3 axes;
uniform bool textured;
uniform sampler2D picture;
in vec3 turned;
in vec3 eye;
in vec3 paint_here;
out vec4 light;
{GLSL}
void main() {{
    vec3 albedo = textured ? texture(picture, paint_here.xy).rgb : paint_here;
    light = vec4(albedo * shade(towards_viewer(turned, eye), axes[2]), 1);
}}
"""

_WHOLE = """
#version 330
const vec2 corners[3] = vec2[](vec2(-1, -1), vec2(3, -1), vec2(-1, 3));
void main() { gl_Position = vec4(corners[gl_VertexID], 0, 1); }
"""

_ON_WHITE = f"""
#version 330
uniform sampler2D samples;
out vec3 color;
void main() {{
    ivec2 first = ivec2(gl_FragCoord.xy) * {SUPERSAMPLING};
    vec4 sum = vec4(0);
    for (int y = 0; y < {SUPERSAMPLING}; y++)
        for (int x = 0; x < {SUPERSAMPLING}; x++)
            sum += texelFetch(samples, first + ivec2(x, y), 0);
    vec4 light = sum / {SUPERSAMPLING**2};
    vec3 linear = clamp(light.rgb + 1 - light.a, 0, 1);
    vec3 curve = 1.055 * pow(linear, vec3(1 / 2.4)) - 0.055;
    color = mix(curve, linear * 12.92, lessThanEqual(linear, vec3(0.0031308)));
}}
"""


class Renderer:
    """Draws one subject before a white ground, in an open context."""

    def __init__(self, context: moderngl.Context, subject: Subject, size_px: int) -> None:
        side = size_px * SUPERSAMPLING
        self._context = context
        self._flags = context.DEPTH_TEST | (context.CULL_FACE if subject.closed else 0)
        self._radius = float(np.linalg.norm(subject.vertices, axis=1).max())
        self._program = context.program(vertex_shader=_VERTEX, fragment_shader=_FRAGMENT)
        self._resolve = context.program(vertex_shader=_WHOLE, fragment_shader=_ON_WHITE)
        self._resolve["samples"] = _SAMPLES_UNIT
        self._samples = context.texture((side, side), 4, dtype="f2")
        self._wide = context.framebuffer([self._samples], context.depth_renderbuffer((side, side)))
        self._picture = context.framebuffer([context.texture((size_px, size_px), 3)])
        self._mesh = self._upload(subject)
        self._pass = _vertex_array(context, self._resolve, [])
        check(context)  # a driver may crash on what it has no memory for

    def _upload(self, subject: Subject) -> moderngl.VertexArray:
        context = self._context
        paint = np.zeros((len(subject.vertices), 3), np.float32)
        paint[:, : subject.paint.shape[1]] = subject.paint
        attributes = np.concatenate([subject.vertices, subject.normals, paint], axis=1)
        self._program["textured"] = subject.texture is not None
        self._texture = None
        if subject.texture is not None:
            height, width = subject.texture.shape[:2]
            data = np.ascontiguousarray(subject.texture).tobytes()
            self._texture = context.texture((width, height), 3, data, internal_format=_SRGB8)
            self._texture.repeat_x = self._texture.repeat_y = False
        data = context.buffer(attributes.astype(np.float32).tobytes())
        faces = context.buffer(np.ascontiguousarray(subject.faces, np.int32).tobytes())
        layout = (data, "3f 3f 3f", "position", "normal", "paint")
        return _vertex_array(context, self._program, [layout], faces)

    def draw(self, view: View) -> NDArray[np.uint8]:
        """sRGB (size, size, 3). Raises OpenGLError."""
        distance = float(np.linalg.norm(view.shift))
        self._program["axes"] = tuple(view.axes.T.ravel())  # OpenGL takes columns
        self._program["shift"] = tuple(view.shift)
        self._program["focal"] = 1 / np.tan(np.radians(view.fovy_deg) / 2)
        nearest = max(distance - self._radius, distance * 1e-3)
        self._program["range"] = (nearest, distance + self._radius)
        self._context.enable_only(self._flags)
        self._context.front_face = "cw"  # since y points down
        self._context.cull_face = "back"
        self._wide.use()
        self._wide.clear()
        if self._texture is not None:
            self._texture.use()
        self._mesh.render()
        self._context.enable_only(self._context.NOTHING)
        self._picture.use()
        self._samples.use(_SAMPLES_UNIT)
        self._pass.render(vertices=3)
        data = self._picture.read(components=3)
        check(self._context)
        return np.frombuffer(data, np.uint8).reshape(self._picture.height, self._picture.width, 3)

    def release(self) -> None:
        """Let go of all that is in the device's memory; nothing can be drawn after it.

        Mesa keeps a texture that is read, released or not, until it draws with another.
        """
        self._context.framebuffer([self._context.texture((1, 1), 3)]).use()
        self._context.texture((1, 1), 4, dtype="f2").use(_SAMPLES_UNIT)
        self._pass.render(vertices=3)
        vars(self).clear()


def _vertex_array(context: Any, *parts: Any) -> moderngl.VertexArray:
    return context.vertex_array(*parts)  # whose type is not told in full


@contextmanager
def renderer(subject: Subject, size_px: int) -> Generator[Renderer]:
    """Raises NoOpenGL; OpenGLError where the device cannot hold or draw it."""
    with opengl() as context:
        drawing = Renderer(context, subject, size_px)
        yield drawing
        drawing.release()  # after an error the context goes, and all with it
