"""TripoSR's golden numbers on the device, in float32 and in 16 bits, and two equal runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from dna_pipeline.providers.triposr import surface, weights
from dna_pipeline.providers.triposr.field import Field
from gpu_checks.jobs import run_triposr
from gpu_checks.report import Check, Failed, Skipped
from gpu_checks.setting import GOLDEN, ROBOT, TINY, Setting

EXACT = {"cpu": 1e-5, "mps": 1e-3, "cuda": 2e-3}
"""Largest error of float32's scene codes, by device: |codes - golden| / |golden|, Euclidean norms.

cuDNN computes convolutions in TF32, of ten bits, unless it is told otherwise.
"""
HALF = 2e-2
"""The same in 16 bits. bfloat16 on a CPU comes to 0.6 %, and to 1.2 % at full size."""
DENSITY = 1e-3
"""Largest relative error of a density whose scene codes are golden, where it is above 1."""
COUNTS = 1e-3
"""Largest relative error of inside points, vertices, faces, area and volume of a mesh."""
RESOLUTION = {True: 64, False: 128}
"""Of the mesh that is compared, by `small`; at 64, with the dense grid instead of golden numbers.
"""


@dataclass(frozen=True)
class _Shape:
    """Numbers that describe a mesh."""

    inside: float
    vertices: float
    faces: float
    area: float
    volume: float

    @classmethod
    def of(cls, found: surface.Surface) -> _Shape:
        a, b, c = found.mesh.vertices.astype(np.float64)[found.mesh.faces].transpose(1, 0, 2)
        normals = np.cross(b - a, c - a)
        area = float(np.linalg.norm(normals, axis=1).sum() / 2)
        volume = float(np.einsum("fk,fk->", a, normals) / 6)
        return cls(found.inside, len(found.mesh.vertices), len(found.mesh.faces), area, volume)

    def error(self, golden: _Shape) -> float:
        """Largest relative error of any of the numbers."""
        pairs = zip(vars(self).values(), vars(golden).values(), strict=True)
        return max(abs(value / expected - 1) for value, expected in pairs)


def scene_codes(dtype: str, setting: Setting) -> dict[str, Any]:
    """The small model's scene codes of the golden picture."""
    if dtype not in ("float32", *setting.dtypes):
        raise Skipped(f"the network does not compute in {dtype} on {setting.device}")
    network = weights.load(TINY, setting.device, getattr(torch, dtype))
    with Image.open(TINY / "conditioned.png") as image:
        pixels = torch.as_tensor(np.array(image))[None]
    with torch.inference_mode():
        codes = network(pixels).float().cpu()
    expected = torch.as_tensor(_expected()["scene_codes"])
    error = ((codes - expected).square().sum() / expected.square().sum()).sqrt().item()
    limit = EXACT[setting.device.type] if dtype == "float32" else HALF
    return {"error": require(error, limit, "the scene codes")}


def densities(setting: Setting) -> dict[str, Any]:
    """Densities and colours of the golden scene codes at golden points."""
    arrays = _expected()
    network = weights.load(TINY, setting.device)
    codes, points = (
        torch.as_tensor(arrays[key], device=setting.device) for key in ("scene_codes", "points")
    )
    density, color = network.field(codes[0]).density_and_color(points)
    expected = arrays["density"]
    error = float((np.abs(density.cpu().numpy() - expected) / np.maximum(expected, 1)).max())
    color_error = float(np.abs(color.cpu().numpy() - arrays["color"]).max())
    return {
        "density_error": require(error, DENSITY, "the densities"),
        "color_error": require(color_error, DENSITY, "the colours"),
    }


def mesh(setting: Setting) -> dict[str, Any]:
    """The mesh of the golden robot, beside the golden numbers."""
    resolution = RESOLUTION[setting.small]
    found = _Shape.of(surface.extract(Field.from_npz(ROBOT, setting.device), resolution))
    if setting.small:
        dense = surface.extract(Field.from_npz(ROBOT), resolution, method="dense")
        golden = _Shape.of(dense)
    else:
        numbers = json.loads((GOLDEN / "scenes" / "robot.expected.json").read_text())
        names = ("inside", "vertices", "faces", "area", "volume")
        golden = _Shape(*(numbers[f"{name}_{resolution}"] for name in names))
    error = require(found.error(golden), COUNTS, "the mesh")
    return {"resolution": resolution, "error": error, "inside": found.inside}


def repeated(setting: Setting) -> dict[str, Any]:
    """Two runs of the stage `triposr`, whose files are to be equal, byte for byte."""
    sizes: list[int] = []
    files: list[bytes] = []
    for number in range(2):
        done = run_triposr(setting, setting.folder / f"repeated-{number}")
        path = setting.folder / f"repeated-{number}" / "work" / "triposr" / done.artifacts[0].path
        files.append(path.read_bytes())
        sizes.append(len(files[-1]))
    if files[0] != files[1]:
        raise Failed(f"two runs gave different files, of {sizes[0]} and {sizes[1]} bytes")
    return {"bytes": sizes[0]}


def require(error: float, limit: float, what: str) -> float:
    """The error, if it is within the limit; not a number counts as too large. Raises `Failed`."""
    if not error <= limit:  # nor is NaN
        raise Failed(f"{what} are off by {error:.3g}, where {limit:g} is allowed")
    return error


def _expected() -> Mapping[str, Any]:
    with np.load(TINY / "expected.npz") as arrays:
        return dict(arrays)


CHECKS: tuple[tuple[str, Check], ...] = (
    ("triposr-float32", partial(scene_codes, "float32")),
    ("triposr-float16", partial(scene_codes, "float16")),
    ("triposr-bfloat16", partial(scene_codes, "bfloat16")),
    ("triposr-densities", densities),
    ("triposr-mesh", mesh),
    ("triposr-two-runs", repeated),
)
