"""The `triposr` stage as its tests call it, and fields made to order."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from PIL import Image

from dna_pipeline.providers.base import Device
from dna_pipeline.providers.triposr.field import Field
from dna_pipeline.providers.triposr.provider import TripoSRModel
from dna_pipeline.stages.base import StageContext
from dna_pipeline.stages.triposr.stage import TripoSR

GOLDEN = Path(__file__).parent / "golden"
TINY = GOLDEN / "triposr-tiny"

Make = Callable[..., StageContext]


def stage(**params: Any) -> TripoSR:
    return TripoSR.model_validate({"model": "triposr", "resolution": 24, **params})


def names(ctx: StageContext) -> list[str]:
    """All that lies in the folder, hidden files too."""
    return sorted(path.name for path in ctx.work_dir.iterdir())


def load(data: bytes) -> trimesh.Trimesh:
    (mesh,) = trimesh.load(io.BytesIO(data), file_type="glb", process=False).geometry.values()
    return mesh


def colors(mesh: trimesh.Trimesh) -> np.ndarray:
    """Linear light in [0, 1], (n, 3)."""
    return np.asarray(mesh.visual.vertex_attributes["color"])[:, :3] / 65535


class Landmarks(Field):
    """A white ball with a red nose at +x, a green hat at +z and a blue hand at +y."""

    PARTS = ((0.6, 0, 0), (0, 0.5, 0), (0, 0, 0.7))
    RADII = (0.4, 0.12, 0.12, 0.12)
    PAINT = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))

    def __init__(self) -> None:
        field = Field.from_npz(GOLDEN / "scenes" / "robot.npz")
        super().__init__(field.scene_code, field.decoder, field.renderer)

    def distances(self, points: torch.Tensor) -> torch.Tensor:
        """To the surfaces of the ball and of the three parts, (N, 4)."""
        centres = torch.tensor([(0.0, 0.0, 0.0), *self.PARTS])
        return torch.cdist(points, centres) - torch.tensor(self.RADII)

    def density(self, points: torch.Tensor) -> torch.Tensor:
        return 25 - 100 * self.distances(points).amin(dim=1)

    def density_and_color(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        nearest = self.distances(points).argmin(dim=1)
        return self.density(points), torch.tensor([(1.0, 1.0, 1.0), *self.PAINT])[nearest]


class Given(TripoSRModel):
    """Gives the landmarks for any picture."""

    def load(self, device: Device) -> Any:
        class Network:
            def field(self, image: Image.Image, *, foreground_ratio: float) -> Field:
                return Landmarks()

        return Network()
