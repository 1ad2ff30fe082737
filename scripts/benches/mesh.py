"""Time from a scene code to a coloured mesh, by phase, beside the original's method."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benches import options
from dna_pipeline.media.meshes.mesh import Mesh
from dna_pipeline.providers.triposr import surface
from dna_pipeline.providers.triposr.field import Field

T = TypeVar("T")

PROCESS = Path("/proc/self")
REFERENCE_CHUNK = 8192
REFERENCE_RADIUS = 0.87
REFERENCE_DENSITY_BIAS = -1.0


@dataclass(frozen=True, slots=True)
class Report:
    """Report on one mesh. Lengths are in the scene's units.

    Attributes:
        peak_mib: peak memory for making the mesh, beyond the model and the scene.
    """

    method: str
    seconds: dict[str, float]
    peak_mib: float | None
    points: int
    inside: int
    vertices: int
    faces: int
    area: float
    volume: float


class Stopwatch:
    """Seconds by phase; waits for the device before it reads the clock."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = self._now()
        self.seconds: dict[str, float] = {}

    def measure(self, phase: str, work: Callable[[], T]) -> T:
        start = self._now()
        result = work()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + self._now() - start
        return result

    def total(self) -> dict[str, float]:
        """Give the seconds of all phases, the rest as `other`, and the sum as `total`."""
        total = self._now() - self._start
        return {**self.seconds, "other": total - sum(self.seconds.values()), "total": total}

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


class PeakMemory:
    """Peak memory since this object was made, above the memory at that time; Linux and CUDA."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif PROCESS.is_dir():
            (PROCESS / "clear_refs").write_text("5")  # resets the peak
        self._before = self._bytes("VmRSS")

    def mib(self) -> float | None:
        peak = self._bytes("VmHWM")
        if peak is None or self._before is None:
            return None
        return round((peak - self._before) / 2**20, 1)

    def _bytes(self, which: str) -> int | None:
        if self._device.type == "cuda":
            ask = torch.cuda.memory_allocated, torch.cuda.max_memory_allocated
            return ask[which == "VmHWM"](self._device)
        if not PROCESS.is_dir():
            return None
        lines = (PROCESS / "status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(which))


def pipeline_mesh(field: Field, resolution: int, level_set: surface.LevelSet = "density") -> Report:
    """Make the mesh as the `triposr` stage does."""
    memory, watch = PeakMemory(field.device), Stopwatch(field.device)
    field = Field(
        field.scene_code, field.decoder, field.renderer
    )  # a new field reads the planes anew
    extraction = surface.extract(field, resolution, level_set=level_set)
    watch.seconds.update(extraction.seconds)
    return _report("pipeline", watch, memory, extraction.mesh, extraction.points, extraction.inside)


def reference_mesh(field: Field, resolution: int) -> Report:
    """Make the mesh with the original's operations on every point. Do not optimise it: it is the
    fixed reference."""
    memory, watch = PeakMemory(field.device), Stopwatch(field.device)
    axis = torch.linspace(0, 1, resolution, device=field.device)
    axis = axis * (2 * REFERENCE_RADIUS) - REFERENCE_RADIUS
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).view(-1, 3)
    density, _ = watch.measure("density", lambda: reference_query(field, grid))
    volume = density.view(resolution, resolution, resolution).cpu().numpy()
    vertices, faces = watch.measure("surface", lambda: _marching_cubes(volume))
    vertices = vertices * (2 * REFERENCE_RADIUS / (resolution - 1)) - REFERENCE_RADIUS
    points = torch.as_tensor(vertices.astype(np.float32), device=field.device)
    _, color = watch.measure("color", lambda: reference_query(field, points))
    mesh = Mesh(vertices.astype(np.float32), faces, color.cpu().numpy())
    inside = int(np.count_nonzero(volume > surface.DEFAULT_THRESHOLD))
    return _report("reference", watch, memory, mesh, volume.size, inside)


@torch.inference_mode()
def reference_query(field: Field, points: Tensor) -> tuple[Tensor, Tensor]:
    """Compute density (N,) and colour (N, 3): three planes sampled, both heads, all activations."""
    layers = [m for m in field.decoder.layers if isinstance(m, torch.nn.Linear)]
    density, color = points.new_empty(len(points)), points.new_empty(len(points), 3)
    for start in range(0, len(points), REFERENCE_CHUNK):
        chunk = points[start : start + REFERENCE_CHUNK]
        unit = (chunk + REFERENCE_RADIUS) / (2 * REFERENCE_RADIUS) * 2 - 1
        planes = torch.stack([unit[:, [0, 1]], unit[:, [0, 2]], unit[:, [1, 2]]])
        sampled = F.grid_sample(field.scene_code, planes[:, None], align_corners=False)
        x = sampled[:, :, 0].permute(2, 0, 1).reshape(len(chunk), -1)  # (N, 3 * C)
        for layer in layers[:-1]:
            x = F.silu(layer(x), inplace=True)
        raw = layers[-1](x)
        density[start : start + len(chunk)] = torch.exp(raw[:, 0] + REFERENCE_DENSITY_BIAS)
        color[start : start + len(chunk)] = torch.sigmoid(raw[:, 1:])
    return density, color


def _marching_cubes(volume: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    from skimage import measure

    march = cast(Callable[..., tuple[Any, ...]], getattr(measure, "marching_cubes"))  # noqa: B009
    if not volume.min() < surface.DEFAULT_THRESHOLD < volume.max():
        raise surface.EmptySurface("no density crosses the threshold")
    vertices, faces, *_ = march(volume, surface.DEFAULT_THRESHOLD, gradient_direction="ascent")
    return vertices, faces.astype(np.int32)


def _report(
    method: str, watch: Stopwatch, memory: PeakMemory, mesh: Mesh, points: int, inside: int
) -> Report:
    seconds = {phase: round(value, 4) for phase, value in watch.total().items()}
    a, b, c = mesh.vertices.astype(np.float64)[mesh.faces].transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)  # length: twice the triangle's area
    return Report(
        method=method,
        seconds=seconds,
        peak_mib=memory.mib(),
        points=points,
        inside=inside,
        vertices=len(mesh.vertices),
        faces=len(mesh.faces),
        area=float(np.linalg.norm(normals, axis=1).sum() / 2),
        volume=float(np.einsum("fk,fk->", a, normals) / 6),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_scene(parser)
    parser.add_argument(
        "--resolution", type=options.at_least(2), default=256, help="points a side (%(default)s)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--dense", action="store_true", help="the original's way instead of ours")
    which.add_argument("--compare", action="store_true", help="ours, then the original's")
    level_sets = get_args(surface.LevelSet)
    parser.add_argument("--level-set", choices=level_sets, default=level_sets[0], help="of ours")
    options.add_device(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report. Raises `ValueError` or `OSError` for an unusable scene."""
    field = Field.from_npz(args.scene, args.device)
    make = reference_mesh if args.dense else partial(pipeline_mesh, level_set=args.level_set)
    with suppress(surface.EmptySurface):
        surface.extract(field, 112)  # the first call includes set-up
    report: dict[str, Any] = {
        "scene": args.scene.name,
        "resolution": args.resolution,
        **options.surroundings(field.device),
        **asdict(make(field, args.resolution)),
    }
    if args.compare:
        reference = reference_mesh(field, args.resolution)
        report["reference"] = asdict(reference)
        report["speedup"] = round(reference.seconds["total"] / report["seconds"]["total"], 2)
    return report
