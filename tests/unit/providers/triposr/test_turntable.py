"""Views without the samples that nobody can see, beside views from every sample."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dna_pipeline.media.meshes.camera import Camera, turntable
from dna_pipeline.providers.triposr.config import FULL, DecoderConfig
from dna_pipeline.providers.triposr.decoder import Decoder
from dna_pipeline.providers.triposr.field import Field
from dna_pipeline.providers.triposr.lattice import Lattice, side_of
from dna_pipeline.providers.triposr.volume import render_turntable, render_view
from tests.conftest import load_script

psnr = load_script("psnr")

SCENES = Path(__file__).parents[3] / "golden" / "scenes"


class Asked(Field):
    """A field that notes how many points it is asked for at once."""

    def __init__(self, field: Field) -> None:
        super().__init__(field.scene_code, field.decoder, field.renderer)
        self.asked: list[int] = []

    def density_and_color(self, points: Tensor) -> tuple[Tensor, Tensor]:
        self.asked.append(len(points))
        return super().density_and_color(points)


def wires(haze: float = -4.0, *, samples: int = 128) -> Asked:
    """Wires along each axis, red, green and blue, thinner than the lattice's step.

    A texel on a plane is a tent two texels wide; only its tip is dense.
    """
    planes = torch.zeros(3, 1, 64, 64)
    for plane, places in enumerate([[(8, 40), (33, 20)], [(25, 31)], [(40, 12), (50, 51)]]):
        for row, column in places:
            planes[plane, 0, row, column] = 1
    decoder = Decoder(DecoderConfig(in_channels=3, n_neurons=3, n_hidden_layers=1))
    state = {
        "layers.0.weight": 20 * torch.eye(3),
        "layers.0.bias": torch.full((3,), -12.0),
        "layers.2.weight": torch.cat([torch.full((1, 3), 2.0), torch.eye(3)]),
        "layers.2.bias": torch.tensor([haze, -2.0, -2.0, -2.0]),
    }
    decoder.load_state_dict(state)
    renderer = replace(FULL.renderer, num_samples_per_ray=samples)
    return Asked(Field(planes, decoder.requires_grad_(False), renderer))


def fitted(name: str) -> Asked:
    return Asked(Field.from_npz(SCENES / f"{name}.npz"))


def psnr_db(found: Sequence[np.ndarray], exact: Sequence[np.ndarray]) -> float:
    return psnr.psnr_db(np.stack(found), np.stack(exact), 1)


def asked_by_a_lattice(field: Asked) -> int:
    field.asked.clear()
    Lattice.of(field, 0.05)
    return sum(field.asked)


@pytest.mark.slow
@pytest.mark.parametrize(("scene", "share"), [("robot", 0.03), ("knot", 0.03)])
def test_views_are_those_from_every_sample(scene: str, share: float) -> None:
    field, cameras, size = fitted(scene), turntable(7)[1:3], 48
    found = list(render_turntable(field, cameras, size))
    points = sum(field.asked)
    exact = [render_view(field, camera, size) for camera in cameras]
    assert psnr_db(found, exact) > 54
    assert np.abs(np.stack(found) - np.stack(exact)).max() < 0.02
    lattice = asked_by_a_lattice(field)
    assert lattice < 0.4 * side_of(field) ** 3
    assert points - lattice < share * 2 * size**2 * 128


@pytest.mark.slow
def test_thin_wires_are_whole() -> None:
    field, cameras = wires(), [Camera(20.0, 10.0), Camera(100.0, -35.0)]
    exact = [render_view(field, camera, 96) for camera in cameras]
    field.asked.clear()
    found = list(render_turntable(field, cameras, 96))
    assert psnr_db(found, exact) > 60
    assert np.abs(np.stack(found) - np.stack(exact)).max() < 0.03
    assert sum(field.asked) < asked_by_a_lattice(field) + 0.02 * 2 * 96**2 * 128


@pytest.mark.slow
def test_haze_is_not_lost() -> None:
    """Each of its samples weighs too little to be asked for; together they weigh 13 %."""
    field = wires(haze=-1.0)
    exact = render_view(field, Camera(), 16)
    assert exact[0].max() < 0.9
    np.testing.assert_allclose(next(render_turntable(field, [Camera()], 16)), exact, atol=0.01)


CAMERAS = {
    "above": Camera(45.0, 80.0, 2.6, 20.0),
    "inside": Camera(10.0, 0.0, 0.3, 100.0),
    "in the middle": Camera(10.0, -90.0, 0.0, 90.0),
    "far off": Camera(200.0, 30.0, 9.0, 40.0),
}


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "size"), [(128, 24), (100, 33), (37, 8), (5, 25)])
def test_any_camera_any_size_any_number_of_samples(samples: int, size: int) -> None:
    field = wires(samples=samples)
    views = render_turntable(field, list(CAMERAS.values()), size)
    for (name, camera), found in zip(CAMERAS.items(), views, strict=True):
        assert found.shape == (size, size, 3)
        assert found.dtype == np.float32
        assert psnr_db([found], [render_view(field, camera, size)]) > 50, name


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "haze"), [(128, -4.0), (5, 0.3)])
def test_no_more_points_at_once_than_allowed(samples: int, haze: float) -> None:
    """With five samples to a ray, each of a thin haze is asked for."""
    field = wires(haze, samples=samples)
    (usual,) = render_turntable(field, [Camera(20.0, 10.0)], 48)
    field.asked.clear()
    (found,) = render_turntable(field, [Camera(20.0, 10.0)], 48, chunk_size=1000)
    assert max(field.asked) <= 1000
    np.testing.assert_allclose(found, usual, atol=1e-5)


@pytest.mark.slow
def test_pictures_come_one_by_one_and_progress_counts_their_pixels() -> None:
    told: list[tuple[int, int]] = []
    field = wires()
    pictures = render_turntable(
        field, turntable(3), 64, chunk_size=1000, progress=lambda *step: told.append(step)
    )
    assert field.asked == []
    next(pictures)
    assert told[0] == (0, 3 * 64**2)
    within = [done for done, _ in told if 0 < done < 64**2]
    assert len(within) >= 1
    assert told[-1] == (64**2, 3 * 64**2)
    assert len(list(pictures)) == 2
    assert told[-1] == (3 * 64**2, 3 * 64**2)
    assert told == sorted(told)


class Enough(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 1000])
def test_cancelling(at: int) -> None:
    """Within the lattice, and within a view."""
    field = wires()

    def progress(done: int, _total: int) -> None:
        if done >= at:
            raise Enough

    with pytest.raises(Enough):
        next(render_turntable(field, turntable(2), 64, 40_000, progress))
    assert len(field.asked) == 1 or at


@pytest.mark.slow
def test_densities_without_a_logarithm_or_end() -> None:
    for haze, expected in ((-300.0, 1.0), (300.0, None)):
        field = wires(haze)
        exact = render_view(field, Camera(), 8)
        found = next(render_turntable(field, [Camera()], 8))
        np.testing.assert_allclose(found, exact, atol=0.02)
        assert expected is None or found[0, 0].min() == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_a_lattice_holds_the_field_and_the_peaks_around() -> None:
    field = wires()
    reach = 0.05
    held = Lattice.of(field, reach)
    axis = torch.linspace(-1, 1, side_of(field))
    index = torch.randint(0, side_of(field), (400, 3), generator=torch.Generator().manual_seed(0))
    at = axis[index]  # (400, 3)
    density, color = field.density_and_color(at * field.radius)
    found, wide_peak, found_color = held.wide(at[None])
    np.testing.assert_allclose(found[0], density.clamp(1e-6), rtol=2e-3)
    np.testing.assert_allclose(found_color[0], color, atol=1e-3)
    near, peak, near_color = held.near(at)
    np.testing.assert_allclose(near, density.clamp(1e-6), rtol=2e-3)
    np.testing.assert_allclose(near_color, color, atol=1e-3)
    assert (peak >= near * 0.999).all()
    step = 2 / (side_of(field) - 1)
    for offset in torch.tensor([[1.0, 1.0, -1.0], [0.0, -1.0, 1.0]]):
        beside = (at + step * offset).clamp(-1, 1)
        assert (peak >= 0.99 * held.near(beside)[0]).all()
        far = (at + reach / field.radius * offset).clamp(-1, 1)
        assert (wide_peak[0] >= 0.99 * held.near(far)[0]).all()
    assert wide_peak.min() < 0.02 < 25 < wide_peak.max()
