"""Pictures of a field by volume rendering (Max 1995, "Optical Models"; NeRF's quadrature)."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dna_pipeline.tsr.camera import Camera
from dna_pipeline.tsr.field import Field
from dna_pipeline.tsr.mesh import FloatArray

Progress = Callable[[int, int], None]

_BOX_SHRINK = 1e-3
_MIN_LENGTH = 0.01
_MIN_DIRECTION = 1e-6


def render_view(
    field: Field,
    camera: Camera,
    size_px: int = 256,
    chunk_size: int = 0,
    progress: Progress | None = None,
) -> FloatArray:
    """One square picture (size, size, 3) float32 in [0, 1], sRGB, on white.

    chunk_size: points asked for at once, 0 = the field's choice. progress(done, total) counts
    the rays that meet the box, and cancels by raising.
    """
    origin, directions = camera.rays(size_px, size_px)
    picture = torch.ones(size_px * size_px, 3)
    near, far = _box_interval(origin, directions.view(-1, 3), field.radius)
    hits = torch.nonzero(far - near > _MIN_LENGTH)[:, 0]
    samples = field.renderer.num_samples_per_ray
    step = max(1, (chunk_size or field.chunk_size) // samples)
    for start in range(0, len(hits), step):
        rays = hits[start : start + step]
        points = _sample_points(
            origin, directions.view(-1, 3)[rays], near[rays], far[rays], samples
        )
        picture[rays] = _integrate(field, points).cpu()
        if progress is not None:
            progress(min(start + step, len(hits)), len(hits))
    return picture.view(size_px, size_px, 3).numpy()


def render_views(
    field: Field,
    cameras: Sequence[Camera],
    size_px: int = 256,
    chunk_size: int = 0,
    progress: Progress | None = None,
) -> FloatArray:
    """Pictures (views, size, size, 3) as of `render_view`; progress(done, total) counts views."""
    pictures = np.empty((len(cameras), size_px, size_px, 3), np.float32)
    for view, camera in enumerate(cameras):
        pictures[view] = render_view(field, camera, size_px, chunk_size)
        if progress is not None:
            progress(view + 1, len(cameras))
    return pictures


def _box_interval(origin: Tensor, directions: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Where rays (N, 3) enter and leave the slightly shrunk box: distances (N,), (N,)."""
    half = radius * (1 - _BOX_SHRINK)
    safe = torch.where(directions.abs() < _MIN_DIRECTION, _MIN_DIRECTION, directions)
    low, high = (-half - origin) / safe, (half - origin) / safe
    near = torch.minimum(low, high).amax(dim=1).clamp_min(0.0)
    far = torch.maximum(low, high).amin(dim=1)
    return near, far


def _sample_points(
    origin: Tensor, directions: Tensor, near: Tensor, far: Tensor, samples: int
) -> Tensor:
    """Midpoints of equal steps along rays, (N, samples, 3)."""
    edges = torch.linspace(0, 1, samples + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    distance = near[:, None] * (1 - middle) + far[:, None] * middle  # (N, samples)
    return origin + distance[..., None] * directions[:, None]


def _integrate(field: Field, points: Tensor) -> Tensor:
    """Colours (N, 3) of rays sampled at points (N, samples, 3), over white.

    The step in the optical depth is 1 / samples, not a length: so the model was trained.
    """
    rays, samples = points.shape[:2]
    density, color = field.density_and_color(points.view(-1, 3).to(field.device))
    depth = density.view(rays, samples) / samples
    before = torch.nn.functional.pad(depth.cumsum(dim=1)[:, :-1], (1, 0))
    weights = torch.exp(-before) * -torch.expm1(-depth)  # (N, samples)
    picture = (weights[..., None] * color.view(rays, samples, 3)).sum(dim=1)
    return (picture + (1 - weights.sum(dim=1, keepdim=True))).clamp(0, 1)
