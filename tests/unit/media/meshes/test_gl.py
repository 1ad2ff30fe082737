"""OpenGL without a display: there or plainly not, and nothing piles up."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable

import moderngl
import numpy as np
import psutil
import pytest

from dna_pipeline.media.meshes import gl, gl_drawing, texels
from dna_pipeline.media.meshes.drawing import Subject
from dna_pipeline.media.meshes.turntable import Turntable
from tests.meshes import signpost


def cleared(context) -> bytes:
    target = context.framebuffer([context.texture((2, 2), 4)])
    target.clear(1, 0, 0.2, 1)
    return target.read(components=4)


@pytest.mark.usefixtures("opengl")
def test_it_draws() -> None:
    with gl.context() as context:
        assert context.version_code >= 330
        assert cleared(context) == bytes([255, 0, 51, 255]) * 4
    assert ", OpenGL " in gl.renderer()


@pytest.mark.slow
@pytest.mark.usefixtures("opengl")
def test_nothing_of_one_use_is_left_for_the_next() -> None:
    """The software renderer's textures lie in this process's memory."""
    process, sizes = psutil.Process(), list[int]()
    for use in range(12):
        with gl.context() as context:
            texture = context.texture((2048, 2048), 4, dtype="f4")  # 64 MiB
            target = context.framebuffer([texture])
            target.clear(1, 0, 0.2, 1)
            assert len(target.read((0, 0, 1, 1))) == 3
            if use % 2:
                texture.release()
        sizes.append(process.memory_info().rss)
    assert sizes[-1] - sizes[1] < 3 * 64 << 20


def locate_texels(size_px: int) -> None:
    corners = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    texels.locate_on_gpu(np.eye(3, dtype=np.float32), corners, np.array([[0, 1, 2]]), size_px)


def turn_a_mesh(size_px: int) -> Turntable:
    """What is returned lives on."""
    turntable = Turntable(signpost(), 2, size_px)
    assert turntable.renderer == "gl"
    list(turntable)
    return turntable


def draw_a_mesh(size_px: int) -> gl_drawing.Renderer:
    (view,) = Turntable(signpost(), 1, 16)._views
    with gl_drawing.renderer(Subject.of(signpost()), size_px) as renderer:
        renderer.draw(view)
    return renderer


@pytest.mark.slow
@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("use", [locate_texels, turn_a_mesh, draw_a_mesh])
def test_nothing_of_a_use_is_left_after_it(use: Callable[[int], object]) -> None:
    """The software renderer's textures lie in this process's memory: 64 MiB and more."""
    kept = use(16)
    before = psutil.Process().memory_info().rss
    kept = use(2048)
    assert psutil.Process().memory_info().rss - before < 48 << 20
    context = gl._thread.context
    assert not context.objects
    del kept
    assert not context.objects


@pytest.mark.usefixtures("opengl")
def test_a_use_that_fails_takes_the_context_with_it() -> None:
    with pytest.raises(KeyError), gl.context() as failed:
        raise KeyError
    assert isinstance(failed.mglo, moderngl.InvalidObject)
    with gl.context() as fresh:
        assert fresh is not failed
        assert cleared(fresh)
    with gl.context() as again:
        assert again is fresh


@pytest.mark.usefixtures("opengl")
def test_what_fails_is_told_as_one_error() -> None:
    with pytest.raises(gl.OpenGLError, match="not complete"), gl.context() as context:
        context.framebuffer([context.texture((context.info["GL_MAX_TEXTURE_SIZE"] + 1, 1), 4)])
    with pytest.raises(gl.OpenGLError, match="GL_OUT_OF_MEMORY"), gl.context() as context:
        gl.check(context)
        context.buffer(reserve=1 << 44)
        gl.check(context)


@pytest.mark.usefixtures("opengl")
def test_an_error_is_not_the_next_uses() -> None:
    with gl.context() as context:
        context.buffer(reserve=1 << 44)
    with gl.context() as again:
        gl.check(again)
    assert again is context


@pytest.mark.usefixtures("opengl")
def test_depth_is_not_tested_because_it_was_before() -> None:
    program = {
        "vertex_shader": """#version 330
            const vec2 corners[3] = vec2[](vec2(-1, -1), vec2(3, -1), vec2(-1, 3));
            void main() { gl_Position = vec4(corners[gl_VertexID], 0, 1); }""",
        "fragment_shader": "#version 330\nout vec4 color; void main() { color = vec4(1); }",
    }
    with gl.context() as context:
        context.enable(context.DEPTH_TEST)
    with gl.context() as context:
        target = context.framebuffer(
            [context.texture((1, 1), 4)], context.depth_renderbuffer((1, 1))
        )
        target.clear(depth=0.1)
        target.use()
        context.vertex_array(context.program(**program), []).render(vertices=3)
        assert target.read(components=4) == b"\xff" * 4


@pytest.mark.usefixtures("opengl")
def test_each_thread_has_its_own() -> None:
    pixels: list[bytes] = []

    def draw() -> None:
        with gl.context() as context:
            pixels.append(cleared(context))

    with gl.context() as context:
        other = threading.Thread(target=draw)
        other.start()
        other.join()
        pixels.append(cleared(context))
    assert pixels == [bytes([255, 0, 51, 255]) * 4] * 2


def answer(**environment: str) -> str:
    code = """
from dna_pipeline.media.meshes import gl
try:
    with gl.context() as context:
        print(context.info["GL_RENDERER"])
except gl.NoOpenGL as error:
    print("none:", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, gl.SWITCH: ""} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_it_can_be_switched_off() -> None:
    assert answer(DNA_OPENGL="off") == "none: DNA_OPENGL is off"


@pytest.mark.skipif(sys.platform != "linux", reason="EGL is sought on Linux only")
def test_no_driver_and_no_library_are_told_as_such() -> None:
    assert answer(__EGL_VENDOR_LIBRARY_DIRS="/nowhere").startswith("none: ")
    assert answer(GLCONTEXT_LINUX_LIBEGL="libnone.so.1") == "none: libnone.so.1 not loaded"
