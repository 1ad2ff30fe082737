"""Time for a film of a mesh as it turns, by phase: drawing, and encoding by ffmpeg."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches import options
from dna_pipeline.media.meshes.mesh import Mesh
from dna_pipeline.media.meshes.turntable import Turntable
from dna_pipeline.media.video import write_mp4
from dna_pipeline.providers.triposr import surface
from dna_pipeline.providers.triposr.field import Field

Phases = dict[str, tuple[Any, float, float]]
"""Result of each phase, with its seconds by the clock and of the CPU."""

FPS = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for a film of a mesh that the other mode does not have."""
    parser.add_argument(
        "--resolution",
        type=int,
        default=256,
        help="of the mesh's grid, points a side (%(default)s)",
    )
    parser.add_argument("--software", action="store_true", help="the mesh without OpenGL")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report. Raises `ValueError` or `OSError` for an unusable scene.

    Phases: `open` is the first context of a process, with one picture; `render` the pictures alone,
    kept in memory; `encode` the film of these pictures; `film` both at once, as the pipeline does.
    """
    mesh = surface.extract(Field.from_npz(args.scene, args.device), args.resolution).mesh
    turntable, phases = _filmed(mesh, args)
    return {
        "scene": args.scene.name,
        "mode": "mesh",
        "views": args.views,
        "size": args.size,
        "faces": len(mesh.faces),
        "renderer": turntable.renderer,
        **options.surroundings(args.device),
        "seconds": {phase: wall for phase, (_, wall, _) in phases.items()},
        "cpu_seconds": {phase: cpu for phase, (_, _, cpu) in phases.items()},
        "bytes": phases["film"][0],
    }


def _filmed(mesh: Mesh, args: argparse.Namespace) -> tuple[Turntable, Phases]:
    """Run all phases; give the turntable with the result and times of each phase."""

    def make_turntable(views: int = args.views) -> Turntable:
        return Turntable(mesh, views, args.size, software=args.software)

    def film(pictures: Iterable[NDArray[np.uint8]]) -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "film.mp4")
            write_mp4(path, pictures, args.size, FPS)
            return path.stat().st_size

    phases: Phases = {"open": options.timed(lambda: next(iter(make_turntable(1))))}
    turntable = make_turntable()
    rendered = options.timed(lambda: list(turntable))
    phases["render"] = rendered
    phases["encode"] = options.timed(lambda: film(rendered[0]))
    phases["film"] = options.timed(lambda: film(make_turntable()))
    return turntable, phases
