"""Pictures of a mesh as it turns: lit as the preview is, before a white ground."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dna_pipeline.media.meshes.camera import Camera, turntable
from dna_pipeline.media.meshes.drawing import (
    CENTRING_STEPS,
    FOVY_DEG,
    HALF_FRAME,
    SUPERSAMPLING,
    Subject,
    View,
    draw,
    on_white,
)
from dna_pipeline.media.meshes.gl import NoOpenGL, OpenGLError
from dna_pipeline.media.meshes.mesh import Mesh, TexturedMesh, is_watertight


class Turntable:
    """A mesh on a turntable.

    Iterating gives `views` pictures (size, size, 3) uint8, sRGB, at equal steps of azimuth. The
    first is seen from where the input was; the one after the last would be the first again. The
    frame is the same all round: that of the body that the turning mesh sweeps.

    Attributes:
        renderer: `gl` or `software`, known for certain once all pictures are there.
        fault: what went wrong with the OpenGL that is there, or None.
    """

    def __init__(
        self, mesh: Mesh | TexturedMesh, views: int, size_px: int, *, software: bool = False
    ) -> None:
        """software: without OpenGL, even where it is there. Raises ValueError without faces."""
        self._subject = replace(Subject.of(mesh), closed=is_watertight(mesh.faces))
        distance, rise = frame(self._subject.vertices)
        self._views = [_view(camera, distance, rise) for camera in turntable(views)]
        self._size_px = size_px
        self.renderer = "software" if software else "gl"
        self.fault: str | None = None

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        drawn = 0
        if self.renderer == "gl":
            for picture in self._by_opengl():
                drawn += 1
                yield picture
        for view in self._views[drawn:]:
            yield on_white(draw(self._subject, view, self._size_px, SUPERSAMPLING))

    def _by_opengl(self) -> Iterator[NDArray[np.uint8]]:
        """As many as OpenGL can draw; where it fails in the middle, numpy draws the rest."""
        from dna_pipeline.media.meshes.gl_drawing import renderer

        try:
            with renderer(self._subject, self._size_px) as opened:
                for view in self._views:
                    yield opened.draw(view)
        except NoOpenGL:
            self.renderer = "software"
        except OpenGLError as error:
            self.renderer, self.fault = "software", str(error)


def frame(vertices: NDArray[np.float64]) -> tuple[float, float]:
    """Distance and height of a level camera that keeps the turning mesh in its frame.

    Turning about the z axis, a vertex at radius ρ and height z comes as near to the camera as ρ.
    It stays in a frame of half-width t at unit depth if ρ √(1 / t² + 1) ≤ d, which bounds the
    circle's tangents, and if ±(z - h) / t + ρ ≤ d. Where the width decides, the height is centred
    at that distance, which has no closed form.
    """
    radius, z = np.hypot(vertices[:, 0], vertices[:, 1]), vertices[:, 2]
    high, low = (z / HALF_FRAME + radius).max(), (-z / HALF_FRAME + radius).max()
    distance = max((high + low) / 2, radius.max() * np.hypot(1 / HALF_FRAME, 1))
    rise = HALF_FRAME * (high - low) / 2
    for _ in range(CENTRING_STEPS):
        slopes = [(z - rise) / (distance + side * radius) for side in (-1, 1)]
        rise += distance * (np.max(slopes) + np.min(slopes)) / 2
    return float(distance), float(rise)


def _view(camera: Camera, distance: float, rise: float) -> View:
    return View(camera.axes().double().numpy(), np.array([0, rise, distance]), FOVY_DEG)
