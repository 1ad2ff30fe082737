"""Pinhole cameras that circle the scene, in TripoSR's axes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """A camera at `distance` from the origin that looks at it, z up.

    Azimuth turns from +x (the input view, 0) towards +y; elevation rises towards +z. The field
    of view is vertical. Defaults are TripoSR's.
    """

    azimuth_deg: float = 0.0
    elevation_deg: float = 0.0
    distance: float = 1.9
    fovy_deg: float = 40.0

    def axes(self) -> Tensor:
        """Right, up and backward as rows (3, 3) float32; a rotation at any elevation."""
        azimuth, elevation = math.radians(self.azimuth_deg), math.radians(self.elevation_deg)
        cos_a, sin_a = math.cos(azimuth), math.sin(azimuth)
        cos_e, sin_e = math.cos(elevation), math.sin(elevation)
        right = (-sin_a, cos_a, 0.0)
        up = (-sin_e * cos_a, -sin_e * sin_a, cos_e)
        backward = (cos_e * cos_a, cos_e * sin_a, sin_e)
        return torch.tensor([right, up, backward])

    def rays(self, width_px: int, height_px: int) -> tuple[Tensor, Tensor]:
        """Origin (3,) and unit directions (height, width, 3) through the pixels' centres."""
        axes = self.axes()
        focal_px = 0.5 * height_px / math.tan(0.5 * math.radians(self.fovy_deg))
        x = (torch.arange(width_px) + 0.5 - width_px / 2) / focal_px
        y = (torch.arange(height_px) + 0.5 - height_px / 2) / focal_px
        directions = x[None, :, None] * axes[0] - y[:, None, None] * axes[1] - axes[2]
        return self.distance * axes[2], torch.nn.functional.normalize(directions, dim=-1)


def turntable(
    views: int, elevation_deg: float = 0.0, distance: float = 1.9, fovy_deg: float = 40.0
) -> list[Camera]:
    """`views` cameras at equal steps of azimuth, the first at the input view."""
    return [
        Camera(360.0 * view / views, elevation_deg, distance, fovy_deg) for view in range(views)
    ]
