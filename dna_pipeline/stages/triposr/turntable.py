"""The film of a mesh, or of the field it was cut from, as it turns once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.files import Artifact
from dna_pipeline.stages.base import StageContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dna_pipeline.media.meshes.mesh import Mesh, TexturedMesh
    from dna_pipeline.providers.triposr.field import Field

    Picture = NDArray[np.uint8]

Progress = Callable[[int, int], None]

WORK = {"mesh": 0.2, "nerf": 15}
"""Microseconds a pixel takes, about, on a few CPU cores."""


@dataclass(frozen=True, slots=True)
class Size:
    """Pictures of one turn, their side in pixels, and pictures shown in a second."""

    views: int
    side_px: int
    fps: int


def of_mesh(
    ctx: StageContext, mesh: Mesh | TexturedMesh, size: Size, progress: Progress
) -> Artifact:
    """The film of a mesh, lit as the preview is. progress(done, total) counts views, and cancels by
    raising."""
    from dna_pipeline.media.meshes.turntable import Turntable

    pictures = Turntable(mesh, size.views, size.side_px)
    film = _film(ctx, pictures, size, progress)
    film.facts["renderer"] = pictures.renderer
    if pictures.fault:
        ctx.is_degraded = True
        ctx.warnings.append(f"OpenGL failed, the turntable was drawn without it: {pictures.fault}")
    return film


def of_field(
    ctx: StageContext, field: Field, size: Size, chunk: int, progress: Progress
) -> Artifact:
    """The film of a field by volume rendering, as TripoSR renders. progress(done, total) counts
    pixels."""
    film = _film(ctx, _volume(field, size, chunk, progress), size, None)
    film.facts["renderer"] = "volume"
    return film


def _volume(field: Field, size: Size, chunk: int, progress: Progress) -> Iterator[Picture]:
    import numpy as np

    from dna_pipeline.media.meshes.camera import turntable
    from dna_pipeline.providers.triposr import volume

    cameras = turntable(size.views)
    for picture in volume.render_turntable(field, cameras, size.side_px, chunk, progress):
        yield np.round(picture * 255).astype(np.uint8)


def _film(
    ctx: StageContext, pictures: Iterable[Picture], size: Size, progress: Progress | None
) -> Artifact:
    from dna_pipeline.media.video import MEDIA_TYPE, write_mp4

    path = ctx.path(".turntable.mp4")
    write_mp4(path, _report(pictures, size.views, progress), size.side_px, size.fps)
    facts: dict[str, Any] = {
        "width": size.side_px,
        "height": size.side_px,
        "frames": size.views,
        "fps": size.fps,
    }
    return Artifact(path, "turntable", MEDIA_TYPE, facts)


def _report(
    pictures: Iterable[Picture], views: int, progress: Progress | None
) -> Iterator[Picture]:
    for done, picture in enumerate(pictures, 1):
        yield picture
        if progress is not None:
            progress(done, views)
