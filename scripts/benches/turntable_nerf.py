"""Views by volume rendering: without the samples that nobody can see, beside every sample."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benches.mesh import reference_query
from dna_pipeline.tsr import volume
from dna_pipeline.tsr.camera import turntable
from dna_pipeline.tsr.field import Field


class CountingField(Field):
    """A field that counts the points it is asked for."""

    points = 0

    def density_and_color(self, points: Tensor) -> tuple[Tensor, Tensor]:
        self.points += len(points)
        return super().density_and_color(points)


class ReferenceField(CountingField):
    """The original's operations at each point. Pinned: not to be made faster."""

    def density_and_color(self, points: Tensor) -> tuple[Tensor, Tensor]:
        self.points += len(points)
        return reference_query(self, points)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scene", type=Path, required=True, help="as in tests/golden/scenes/*.npz")
    parser.add_argument("--views", type=_count, default=30, help="around the scene (%(default)s)")
    parser.add_argument("--size", type=_count, default=256, help="pixels a side (%(default)s)")
    parser.add_argument(
        "--reference-views",
        type=_count,
        default=2,
        help="views rendered from every sample too; their time is scaled up (%(default)s)",
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, help="as torch names it (%(default)s)")


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The facts to print. Raises `ValueError` or `OSError` for a scene that won't do."""
    scene = Field.from_npz(args.scene, args.device)
    field = CountingField(scene.scene_code, scene.decoder, scene.renderer)
    cameras = turntable(args.views)
    volume.render_view(field, cameras[0], 8)  # the first call pays for set-up
    known: int = min(args.reference_views, args.views)
    chosen: list[int] = [view * len(cameras) // known for view in range(known)]
    field.points = 0
    start, cpu = time.perf_counter(), time.process_time()
    pictures = list(volume.render_turntable(field, cameras, args.size))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    original = ReferenceField(scene.scene_code, scene.decoder, scene.renderer)
    volume.render_view(original, cameras[0], 8)
    original.points = 0
    start, cpu = time.perf_counter(), time.process_time()
    exact = [volume.render_view(original, cameras[view], args.size) for view in chosen]
    scale = len(cameras) / known
    full = (time.perf_counter() - start) * scale
    full_cpu = (time.process_time() - cpu) * scale
    off = np.stack([pictures[view] for view in chosen]) - np.stack(exact)
    return {
        "scene": args.scene.name,
        "mode": "nerf",
        "views": args.views,
        "size": args.size,
        "device": str(field.device),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "points": field.points,
        "psnr_db": round(float(-10 * np.log10((off**2).mean() + 1e-12)), 2),
        "worst": round(float(np.abs(off).max()), 4),
        "reference": {
            "views": known,
            "scaled_by": scale,
            "seconds": round(full, 3),
            "cpu_seconds": round(full_cpu, 3),
            "points": round(original.points * scale),
        },
        "speedup": round(full / seconds, 2),
        "cpu_speedup": round(full_cpu / cpu_seconds, 2),
    }
