"""Views of the viewport or the camera, and images, as the bytes of an image file."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

SENT_UNCHANGED = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}


def view(context: Any, size_px: int) -> bytes:
    """A PNG of the 3D viewport, transparent where nothing is; without a display, of the camera.

    Raises:
        RuntimeError: it cannot be rendered; the text says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "view.png")
        with _as_png(context.scene, path, size_px):
            if bpy.app.background:
                bpy.ops.render.render(write_still=True)
            else:
                with _without_overlays(context.space_data):
                    bpy.ops.render.opengl(write_still=True, view_context=True)
        return path.read_bytes()


def of_image(image: Any, scene: Any) -> tuple[bytes, str]:
    """An image's file as it is, or a PNG of what Blender alone has; with the suffix."""
    path = Path(bpy.path.abspath(image.filepath, library=image.library))
    is_file = image.source == "FILE" and not image.is_dirty and image.packed_file is None
    if is_file and path.suffix.lower() in SENT_UNCHANGED:
        return path.read_bytes(), path.suffix
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image.png")
        if image.type in ("RENDER_RESULT", "COMPOSITING"):
            with _as_png(scene, path):
                image.save_render(str(path), scene=scene)
        else:
            _save_copy(image, path)
        return path.read_bytes(), ".png"


def _save_copy(image: Any, path: Path) -> None:
    """Write the pixels as they are now, and leave the image alone: saving it would rename it."""
    pixels = np.empty(len(image.pixels), np.float32)
    image.pixels.foreach_get(pixels)
    copy = bpy.data.images.new(path.name, *image.size, alpha=True, float_buffer=image.is_float)
    try:
        copy.colorspace_settings.name = image.colorspace_settings.name
        copy.alpha_mode = image.alpha_mode
        copy.pixels.foreach_set(pixels)
        copy.filepath_raw, copy.file_format = str(path), "PNG"
        copy.save()
    finally:
        bpy.data.images.remove(copy)


@contextmanager
def _changed(owner: Any, **values: Any) -> Iterator[None]:
    """Change attributes in the block, in order: some decide which values the next may have."""
    before = {name: getattr(owner, name) for name in values}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


@contextmanager
def _as_png(scene: Any, path: Path, size_px: int | None = None) -> Iterator[None]:
    """Render settings for a PNG with an alpha channel, square if a size is given."""
    shape = {} if size_px is None else {"resolution_x": size_px, "resolution_y": size_px}
    render, settings = scene.render, scene.render.image_settings
    media = {"media_type": "IMAGE"} if hasattr(settings, "media_type") else {}  # from 5.0 on
    with (
        _changed(
            render, filepath=str(path), film_transparent=True, resolution_percentage=100, **shape
        ),
        _changed(settings, **media, file_format="PNG", color_mode="RGBA", color_depth="8"),
    ):
        yield


@contextmanager
def _without_overlays(space: Any) -> Iterator[None]:
    """Neither grid nor gizmos in the picture."""
    if space is None or space.type != "VIEW_3D":
        yield
        return
    with _changed(space.overlay, show_overlays=False):
        yield
