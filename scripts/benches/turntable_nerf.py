"""Time for views by volume rendering without invisible samples, beside views of every sample."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psnr import psnr_db
from torch import Tensor

from benches import options
from benches.mesh import reference_query
from dna_pipeline.media.meshes.camera import Camera, turntable
from dna_pipeline.providers.triposr import volume
from dna_pipeline.providers.triposr.field import Field


class CountingField(Field):
    """Field that counts the points it computes."""

    points = 0

    def density_and_color(self, points: Tensor) -> tuple[Tensor, Tensor]:
        self.points += len(points)
        return super().density_and_color(points)


class ReferenceField(CountingField):
    """Field with the original's operations at each point. Do not optimise it: it is the fixed
    reference."""

    def density_and_color(self, points: Tensor) -> tuple[Tensor, Tensor]:
        self.points += len(points)
        return reference_query(self, points)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_scene(parser)
    parser.add_argument(
        "--views", type=options.at_least(1), default=30, help="around the scene (%(default)s)"
    )
    parser.add_argument(
        "--size", type=options.at_least(1), default=256, help="pixels a side (%(default)s)"
    )
    parser.add_argument(
        "--reference-views",
        type=options.at_least(1),
        default=2,
        help="views rendered from every sample too; their time is scaled up (%(default)s)",
    )
    options.add_device(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report. Raises `ValueError` or `OSError` for an unusable scene."""
    scene = Field.from_npz(args.scene, args.device)
    field = CountingField(scene.scene_code, scene.decoder, scene.renderer)
    cameras = turntable(args.views)
    volume.render_view(field, cameras[0], 8)  # the first call includes set-up
    view_count: int = min(args.reference_views, args.views)
    indices: list[int] = [view * len(cameras) // view_count for view in range(view_count)]
    field.points = 0
    pictures, seconds, cpu_seconds = options.timed(
        lambda: list(volume.render_turntable(field, cameras, args.size))
    )
    views, reference = _reference(scene, [cameras[view] for view in indices], args)
    ours, exact = np.stack([pictures[view] for view in indices]), np.stack(views)
    return {
        "scene": args.scene.name,
        "mode": "nerf",
        "views": args.views,
        "size": args.size,
        **options.surroundings(field.device),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "points": field.points,
        "psnr_db": round(psnr_db(ours, exact, 1), 2),
        "worst": round(float(np.abs(ours - exact).max()), 4),
        "reference": reference,
        "speedup": round(reference["seconds"] / seconds, 2),
        "cpu_speedup": round(reference["cpu_seconds"] / cpu_seconds, 2),
    }


def _reference(
    scene: Field, cameras: list[Camera], args: argparse.Namespace
) -> tuple[list[NDArray[np.float32]], dict[str, Any]]:
    """Render the original's views from a few cameras; scale their cost up to all views."""
    field = ReferenceField(scene.scene_code, scene.decoder, scene.renderer)
    volume.render_view(field, cameras[0], 8)
    field.points = 0
    pictures, seconds, cpu_seconds = options.timed(
        lambda: [volume.render_view(field, camera, args.size) for camera in cameras]
    )
    scale = args.views / len(cameras)
    return pictures, {
        "views": len(cameras),
        "scaled_by": scale,
        "seconds": round(seconds * scale, 3),
        "cpu_seconds": round(cpu_seconds * scale, 3),
        "points": round(field.points * scale),
    }
