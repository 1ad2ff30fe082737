"""Cameras and volume rendering."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dna_pipeline.media.meshes.camera import Camera, turntable
from dna_pipeline.providers.triposr.field import Field
from dna_pipeline.providers.triposr.volume import render_view

GOLDEN = Path(__file__).parents[3] / "golden"


def render_views(field: Field, cameras: Sequence[Camera], size_px: int) -> NDArray[np.float32]:
    return np.stack([render_view(field, camera, size_px) for camera in cameras])


def test_views(tiny_field: Field, expected: Mapping[str, Any]) -> None:
    views = render_views(tiny_field, turntable(4), 40)
    np.testing.assert_allclose(views, expected["views"], rtol=1e-4, atol=2e-5)


def test_views_from_elsewhere(tiny_field: Field, expected: Mapping[str, Any]) -> None:
    views = render_views(tiny_field, turntable(2, 20.0, 2.2, 35.0), 24)
    np.testing.assert_allclose(views, expected["views_el20_d22_f35"], rtol=1e-4, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("scene", "chosen"), [("robot", slice(2)), ("knot", slice(2, 4))])
def test_scenes(scene: str, chosen: slice) -> None:
    """Each view of the turn, in one of the scenes."""
    field = Field.from_npz(GOLDEN / "scenes" / f"{scene}.npz")
    with np.load(GOLDEN / "scenes" / f"{scene}.expected.npz") as arrays:
        expected = arrays["views_4x64"][chosen].astype(np.float32)
    views = render_views(field, turntable(4)[chosen], 64)
    np.testing.assert_allclose(views, expected, atol=5e-4)  # float16 in the file


def test_turntable_turns_once() -> None:
    assert [camera.azimuth_deg for camera in turntable(4)] == [0.0, 90.0, 180.0, 270.0]


def test_the_input_view() -> None:
    """Seen from +x, with +y to the right of the picture and +z up."""
    origin, directions = Camera().rays(3, 3)
    torch.testing.assert_close(origin, torch.tensor([1.9, 0.0, 0.0]))
    torch.testing.assert_close(directions[1, 1], torch.tensor([-1.0, 0.0, 0.0]))
    assert directions[1, 2, 1] > 0
    assert directions[0, 1, 2] > 0


@pytest.mark.parametrize("elevation_deg", [-90.0, 0.0, 35.0, 90.0])
def test_camera_axes_are_a_rotation(elevation_deg: float) -> None:
    axes = Camera(50.0, elevation_deg).axes()
    torch.testing.assert_close(axes @ axes.T, torch.eye(3))
    assert torch.linalg.det(axes).item() == pytest.approx(1, abs=1e-6)


def test_field_of_view_is_vertical() -> None:
    _, directions = Camera(fovy_deg=40.0).rays(10, 2)
    up = directions[0].mean(dim=0)
    slope = (up[2] / -up[0]).item()
    assert slope == pytest.approx(np.tan(np.radians(20)) / 2, abs=1e-5)


def test_rays_beside_the_box_are_white(tiny_field: Field) -> None:
    picture = render_view(tiny_field, Camera(distance=20.0), 9)
    assert (picture[0] == 1).all()
    assert picture[4, 4].min() < 1


def test_progress(tiny_field: Field) -> None:
    rays: list[tuple[int, int]] = []
    render_view(tiny_field, Camera(), 8, 48 * 20, lambda *step: rays.append(step))
    assert rays == [(20, 64), (40, 64), (60, 64), (64, 64)]
