"""A film of a mesh as it turns, by phase: the drawing, and ffmpeg's part that comes on top."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dna_pipeline.tsr import surface
from dna_pipeline.tsr.field import Field
from dna_pipeline.tsr.turntable import Turntable
from dna_pipeline.video import write_mp4

T = TypeVar("T")

FPS = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those that a film of a mesh has besides the other mode's."""
    parser.add_argument(
        "--resolution",
        type=int,
        default=256,
        help="of the mesh's grid, points a side (%(default)s)",
    )
    parser.add_argument("--software", action="store_true", help="the mesh without OpenGL")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The facts to print. Raises `ValueError` or `OSError` for a scene that won't do.

    Seconds by phase: `render` is the pictures alone, kept in memory; `encode` the film of pictures
    at hand; `film` both at once, as the pipeline does it. The first context of a process is in
    `open`, with one picture.
    """
    mesh = surface.extract(Field.from_npz(args.scene, args.device), args.resolution).mesh
    software: bool = args.software

    def made() -> Turntable:
        return Turntable(mesh, args.views, args.size, software=software)

    seconds: dict[str, float] = {}
    cpu: dict[str, float] = {}

    def measure(phase: str, work: Callable[[], T]) -> T:
        start, before = time.perf_counter(), _cpu()
        result = work()
        seconds[phase] = round(time.perf_counter() - start, 3)
        cpu[phase] = round(_cpu() - before, 3)
        return result

    measure("open", lambda: next(iter(Turntable(mesh, 1, args.size, software=software))))
    turntable = made()
    pictures: list[NDArray[np.uint8]] = measure("render", lambda: list(turntable))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "film.mp4")
        measure("encode", lambda: write_mp4(path, pictures, args.size, FPS))
        measure("film", lambda: write_mp4(path, made(), args.size, FPS))
        size = path.stat().st_size
    return {
        "scene": args.scene.name,
        "mode": "mesh",
        "views": args.views,
        "size": args.size,
        "faces": len(mesh.faces),
        "renderer": turntable.renderer,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "bytes": size,
    }


def _cpu() -> float:
    """CPU seconds of this process and of those it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
