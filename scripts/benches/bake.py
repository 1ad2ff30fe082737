"""Time from a scene code to a textured mesh, by phase, and the mesh's likeness to its field."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from psnr import psnr_db
from scipy import ndimage

from benches import options
from benches.mesh import Stopwatch
from dna_pipeline.media.meshes import export
from dna_pipeline.media.meshes.camera import Camera, turntable
from dna_pipeline.media.meshes.decimate import decimate
from dna_pipeline.media.meshes.mesh import TexturedMesh
from dna_pipeline.media.meshes.placement import place
from dna_pipeline.media.meshes.raster import rasterize
from dna_pipeline.providers.triposr import bake, surface, volume
from dna_pipeline.providers.triposr.field import Field

VIEWS = 4
SUPERSAMPLING = 4
RIM_PX = 2
"""Width of the rim that is left out of the comparison of the inside: volume rendering is soft where
the surface turns away, the mesh is not."""
PHASES = {"unwrap": "unwrap", "locate": "rasterise", "paint": "colour", "fill": "dilate"}
"""Names of the phases, by the functions that `bake` calls."""


def textured(
    field: Field, resolution: int, texture_px: int, target_faces: int
) -> tuple[bake.Baked, dict[str, Any]]:
    """Make the mesh as the `triposr` stage does; give it with its times and counts."""
    watch = Stopwatch(field.device)
    surface_mesh = watch.measure("mesh", lambda: surface.extract(field, resolution)).mesh
    vertices, faces = watch.measure(
        "decimate", lambda: decimate(surface_mesh.vertices, surface_mesh.faces, target_faces)
    )
    originals = {name: getattr(bake, name) for name in PHASES}
    for name, phase in PHASES.items():
        setattr(bake, name, _measured(watch, phase, originals[name]))
    try:
        baked = bake.bake(field, vertices, faces, texture_px)
    finally:
        for name, function in originals.items():
            setattr(bake, name, function)
    size = watch.measure("encode", lambda: _encoded(baked.mesh))
    report = {
        "seconds": {phase: round(seconds, 3) for phase, seconds in watch.total().items()},
        "faces": {"before": len(surface_mesh.faces), "after": len(faces)},
        "vertices": len(baked.mesh.vertices),
        "charts": baked.charts,
        "used": round(baked.used, 4),
        "bytes": size,
    }
    return baked, report


def _measured(watch: Stopwatch, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: watch.measure(phase, lambda: function(*arguments))


def _encoded(mesh: TexturedMesh) -> int:
    """Write the mesh as .glb; give the file's size in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        (file,) = export.write(
            mesh,
            lambda suffix: Path(folder, f"mesh{suffix}"),
            ["glb"],
            place(mesh.vertices, 1.0, "base"),
        )
        return file.path.stat().st_size


def agreement(field: Field, mesh: TexturedMesh, size_px: int) -> dict[str, float]:
    """PSNR in dB of the unlit mesh against the field's volume rendering from four sides: of the
    whole pictures, and of the pixels at least `RIM_PX` inside the mesh's outline."""
    cameras = turntable(VIEWS)
    expected = np.stack([volume.render_view(field, camera, size_px) for camera in cameras])
    drawn = [draw_unlit(mesh, camera, size_px) for camera in cameras]
    inside = np.stack([_eroded(alpha >= 1) for _, alpha in drawn])
    ours = np.stack([picture for picture, _ in drawn])
    return {
        "whole_db": round(psnr_db(ours, expected, 1), 2),
        "inside_db": round(psnr_db(ours[inside], expected[inside], 1), 2),
    }


def _eroded(mask: NDArray[Any]) -> NDArray[np.bool_]:
    erode = cast(Callable[..., NDArray[np.bool_]], getattr(ndimage, "binary_erosion"))  # noqa: B009
    return erode(mask, iterations=RIM_PX)


def draw_unlit(
    mesh: TexturedMesh, camera: Camera, size_px: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw the texture on the mesh, (size, size, 3) sRGB in [0, 1] on white, and the part of each
    pixel that the mesh covers, (size, size).

    Samples are averaged as sRGB values, as volume rendering does.
    """
    many = size_px * SUPERSAMPLING
    points = (mesh.vertices - camera.distance * camera.axes()[2].numpy()) @ camera.axes().numpy().T
    depth = -points[:, 2].astype(np.float64)
    focal = 0.5 * many / np.tan(0.5 * np.radians(camera.fovy_deg))
    place_px = many / 2 + points[:, :2] / depth[:, None] * focal * (1, -1)
    fragments = rasterize(place_px, depth, mesh.faces, many, many)
    picture = np.ones((many, many, 3), np.float32)
    at = fragments.interpolate(mesh.texcoords, mesh.faces)
    picture[fragments.covered] = sample(mesh.texture, at)
    blocks = (size_px, SUPERSAMPLING, size_px, SUPERSAMPLING)
    covered = fragments.covered.reshape(blocks).mean(axis=(1, 3))
    return picture.reshape(*blocks, 3).mean(axis=(1, 3)), covered


def sample(texture: NDArray[np.uint8], texcoords: NDArray[Any]) -> NDArray[Any]:
    """Sample the texture (side, side, 3) at (n, 2), bilinear, clamped at its edges; in [0, 1]."""
    last = len(texture) - 1
    place = np.clip(texcoords * len(texture) - 0.5, 0, last)
    low = np.floor(place).astype(np.intp)
    high, part = np.minimum(low + 1, last), (place - low)[:, :, None]
    upper = texture[low[:, 1], low[:, 0]] * (1 - part[:, 0]) + (
        texture[low[:, 1], high[:, 0]] * part[:, 0]
    )
    lower = texture[high[:, 1], low[:, 0]] * (1 - part[:, 0]) + (
        texture[high[:, 1], high[:, 0]] * part[:, 0]
    )
    return (upper * (1 - part[:, 1]) + lower * part[:, 1]) / 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_scene(parser)
    parser.add_argument(
        "--resolution", type=options.at_least(2), default=256, help="points a side (%(default)s)"
    )
    parser.add_argument(
        "--texture", type=options.at_least(2), default=2048, help="texels a side (%(default)s)"
    )
    parser.add_argument("--target-faces", type=int, default=50_000, help="at most (%(default)s)")
    parser.add_argument(
        "--view-size", type=int, default=128, help="pixels a side of the views compared; 0: none"
    )
    options.add_device(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report. Raises `ValueError` or `OSError` for an unusable scene."""
    field = Field.from_npz(args.scene, args.device)
    surface.extract(field, 32)  # the first call includes set-up
    before = options.cpu_s()
    baked, report = textured(field, args.resolution, args.texture, args.target_faces)
    report["seconds"]["cpu"] = round(options.cpu_s() - before, 3)
    if args.view_size:
        report["psnr"] = agreement(field, baked.mesh, args.view_size)
    return {
        "scene": args.scene.name,
        "resolution": args.resolution,
        "texture": args.texture,
        **options.surroundings(field.device),
        **report,
    }
