"""Files of results, written as the stages write them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dna_pipeline.base.files import Artifact
from dna_pipeline.media.images import save_png
from dna_pipeline.media.meshes import export
from dna_pipeline.media.meshes.placement import place
from dna_pipeline.media.video import write_mp4
from tests.meshes import signpost, textured

FRAMES = 7


def write_all(folder: Path) -> list[Artifact]:
    """A picture, a film, and in every format the meshes `plain` and `painted`."""
    files = [_picture(folder / "cat.png"), _film(folder / "cat.mp4")]
    texture = {"size": 12, "used": 0.5, "charts": 1, "gap": 1.0}
    meshes: list[tuple[str, Any, dict[str, Any]]] = [
        ("plain", signpost(), {}),
        ("painted", textured(), {"texture": texture}),
    ]
    for name, mesh, facts in meshes:
        files += export.write(
            mesh,
            lambda suffix, name=name: folder / f"{name}{suffix}",
            [*export.MEDIA_TYPES],
            place(mesh.vertices, None, None),
            facts=facts,
        )
    return files


def _picture(path: Path) -> Artifact:
    noise = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    save_png(Image.fromarray(noise), path)
    return Artifact(path, "image", "image/png", {"width": 64, "height": 48})


def _film(path: Path) -> Artifact:
    write_mp4(path, _frames(), 64, 12)
    facts = {"width": 64, "height": 64, "frames": FRAMES, "fps": 12, "renderer": "gl"}
    return Artifact(path, "turntable", "video/mp4", facts)


def _frames() -> Iterator[np.ndarray]:
    """A dark disc on white that moves to the right."""
    y, x = np.mgrid[:64, :64]
    for number in range(FRAMES):
        picture = np.full((64, 64, 3), 255, np.uint8)
        picture[(x - 20 - 3 * number) ** 2 + (y - 40) ** 2 < 100] = (30, 60, 90)
        yield picture
