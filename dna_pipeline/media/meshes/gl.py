"""OpenGL without a display, on EGL.

Works on a GPU's EGL device and on Mesa's llvmpipe alike. A thread's context is kept for its next
use, since each one opened and released costs the process 40 kB for good; the objects made with it
are not kept. A process that has opened one must not fork and draw in the child.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import moderngl

SWITCH = "DNA_OPENGL"
"""The environment variable that, set to `off`, lets this machine pass for one without OpenGL."""

_VERSION = 330
_MOST_DEVICES = 8
# By its soname: what is looked for by its bare name takes a compiler or half a second to find.
# It hands out the functions of OpenGL too, so that libGL and X's libraries need not be there.
_LIBRARY = "libEGL.so.1"


class NoOpenGL(RuntimeError):
    """There is no EGL, no driver, or it is switched off; the message tells which."""


class OpenGLError(RuntimeError):
    """OpenGL is there but could not do what it was asked, most often for lack of memory."""


_thread = threading.local()


@contextmanager
def context() -> Generator[moderngl.Context]:
    """A context of OpenGL 3.3 core or later, current in this thread until the end of the block.

    Tests such as depth's are off at first; other state is as the last use left it. Objects that
    nothing refers to by the end of the block need no release; others would stay until the next
    use, and must not be used. Not to be nested.

    Raises NoOpenGL; OpenGLError for what moderngl finds wrong in the block, which is not all: see
    `check`. A block that ends with any error takes the context with it, so that the next use
    starts afresh.
    """
    if os.environ.get(SWITCH, "").strip().lower() == "off":
        raise NoOpenGL(f"{SWITCH} is off")
    if sys.platform != "linux":
        raise NoOpenGL("OpenGL without a display is sought on Linux only")
    opened = _thread.context = getattr(_thread, "context", None) or _open()
    try:
        with opened:
            _collect(opened)  # what was still referred to at the end of the last use
            opened.enable_only(opened.NOTHING)
            _ = opened.error  # of what was done before, such as opening it
            yield opened
            _draw_elsewhere(opened)
            _collect(opened)
    except BaseException as error:
        _thread.context = None
        opened.release()
        from moderngl import Error

        if isinstance(error, Error):
            raise OpenGLError(str(error)) from error
        raise


def renderer() -> str:
    """Name of the device or software that draws, and the version of OpenGL. Raises NoOpenGL."""
    with context() as opened:
        return f"{opened.info['GL_RENDERER']}, OpenGL {opened.version_code / 100:.1f}"


def check(opened: moderngl.Context) -> None:
    """Raises OpenGLError where something has gone wrong since the last check in this use.

    OpenGL does not tell by itself: what lacks memory is left out, and the drawing goes on.
    """
    if (fault := opened.error) != "GL_NO_ERROR":
        raise OpenGLError(fault)


def _draw_elsewhere(opened: moderngl.Context) -> None:
    """Mesa keeps what was drawn on last, released or not, until it draws on something else."""
    elsewhere = opened.framebuffer([opened.texture((1, 1), 4)])
    elsewhere.use()
    elsewhere.clear()


def _collect(opened: moderngl.Context) -> None:
    """Release the objects that are referred to no more; the context's own way stumbles over those
    that were released by hand."""
    while opened.objects:
        dead = opened.objects.popleft()
        if hasattr(dead, "release"):
            dead.release()


def _open() -> moderngl.Context:
    """The context on the first device that has one.

    Not every device that EGL lists may be opened: a graphics card whose file is another user's
    comes before the software renderer.
    """
    library = {"libegl": _LIBRARY, "libgl": _LIBRARY}
    reasons: list[str] = []
    try:
        import moderngl

        for device in range(_MOST_DEVICES):
            settings: dict[str, Any] = {"backend": "egl", "device_index": device, **library}
            try:
                opened = moderngl.create_context(require=_VERSION, standalone=True, **settings)
            except Exception as error:  # the library raises no narrower type
                reasons.append(str(error))
            else:
                # An object may die in another thread, or while no context is current.
                opened.gc_mode = "context_gc"
                return opened
    except ImportError as error:
        reasons.append(str(error))
    raise NoOpenGL(reasons[0])
