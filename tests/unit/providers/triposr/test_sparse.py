"""The surface found without the volume: the same as from every point of the grid."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dna_pipeline.providers.triposr import grid, sparse, surface
from dna_pipeline.providers.triposr.config import FULL, DecoderConfig
from dna_pipeline.providers.triposr.decoder import Decoder
from dna_pipeline.providers.triposr.field import Field

pytestmark = pytest.mark.usefixtures("one_thread")

GOLDEN = Path(__file__).parents[3] / "golden"
TEXELS = 64
LEVEL = float(np.log(surface.DEFAULT_THRESHOLD))


def field_of(xy: Tensor, xz: Tensor, yz: Tensor, *, fold: float = 0.0) -> Field:
    """A field whose density has the sum s of three planes as its logarithm, above the threshold's.

    The planes are indexed by coordinates as their names say. With `fold`, -fold · |s| takes the
    place of s.
    """
    config = DecoderConfig(in_channels=3, n_neurons=2, n_hidden_layers=1, activation="relu")
    decoder = Decoder(config).requires_grad_(False)
    for parameter in decoder.parameters():
        parameter.zero_()
    first, _, last = decoder.layers
    first.weight[0], first.weight[1] = 1, -1
    last.weight[0] = torch.tensor([-fold, -fold] if fold else [1.0, -1.0])
    last.bias[0] = LEVEL - FULL.renderer.density_bias + (0.1 if fold else 0.0)
    planes = torch.stack([xy.T, xz.T, yz.T])[:, None].contiguous()
    return Field(planes, decoder, FULL.renderer)


def texels() -> Tensor:
    """Where the texels lie, the box being [-1, 1]."""
    return (torch.arange(TEXELS) * 2 + 1) / TEXELS - 1


def tents(peaks: dict[int, float], slope: float = 1.5) -> Tensor:
    """Ridges along an axis, each at a texel and `slope` a texel steep, (TEXELS,)."""
    index = torch.arange(TEXELS)
    return torch.stack([top - slope * (index - at).abs() for at, top in peaks.items()]).amax(0)


def cones(count: int, seed: int) -> Tensor:
    """Peaks of random height in a plane, some just above the level, some just below it."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.arange(TEXELS)
    plane = torch.full((TEXELS, TEXELS), -9.0)
    for _ in range(count):
        column, row = torch.randint(TEXELS, (2,), generator=generator).tolist()
        top = float(torch.rand((), generator=generator)) * 2 - 0.4
        away = torch.maximum((index - column).abs()[:, None], (index - row).abs())
        plane = torch.maximum(plane, top - 1.7 * away)
    return plane


def slats() -> Field:
    """Plates across z, thinner than the distance of two points of a grid at 128³."""
    x, z = texels(), tents({6 + 5 * i: 0.06 + 0.12 * i for i in range(11)})
    outside = (x.abs() - 0.6).clamp_min(0) * 20
    return field_of(-outside[:, None] - outside, z.expand(TEXELS, -1), torch.zeros(TEXELS, TEXELS))


def slanted_slats() -> Field:
    index = torch.arange(TEXELS)
    away = ((index[:, None] + 0.37 * index) % 9 - 4).abs()
    y = (texels().abs() - 0.5).clamp_min(0) * 20
    return field_of((-y).expand(TEXELS, -1), 0.3 - 1.2 * away, torch.zeros(TEXELS, TEXELS))


def wires() -> Field:
    zero = torch.zeros(TEXELS, TEXELS)
    return field_of(zero, cones(25, 1), zero)


def islands() -> Field:
    rows = tents({4 + 7 * i: 0.0 for i in range(8)})
    return field_of(rows.expand(TEXELS, -1), cones(25, 2), torch.zeros(TEXELS, TEXELS))


def barely_there() -> Field:
    """One ball in the middle of nowhere, of which the grid has a few points."""
    at = tents({21: 1.2})
    return field_of(
        at[:, None] + tents({40: 0.0}),
        tents({33: 0.0}).expand(TEXELS, -1),
        torch.zeros(TEXELS, TEXELS),
    )


def shell() -> Field:
    """A hollow ball, a third of a texel thick, that the box cuts open."""
    x = texels() ** 2
    return field_of(x[:, None] + x, (x - 1.1).expand(TEXELS, -1), 0 * x[:, None] + 0 * x, fold=9.0)


def half_space() -> Field:
    """Inside up to the upper ends of the box, where the last points have no cell above them."""
    z = (texels() * 5).expand(TEXELS, -1)
    return field_of(z.T * 0.7, z * 0.9, z * 0 + 0.3)


def with_holes() -> Field:
    """Full, but for bubbles thinner than the grid's cells."""
    zero = torch.zeros(TEXELS, TEXELS)
    return field_of(zero, -cones(40, 3), -tents({5 + 9 * i: 0.0 for i in range(7)})[:, None] + zero)


SCENES = [
    slats,
    slanted_slats,
    wires,
    islands,
    barely_there,
    shell,
    half_space,
    with_holes,
]


def assert_same(field: Field, resolution: int) -> surface.Surface:
    found = surface.extract(field, resolution)
    dense = surface.extract(field, resolution, method="dense")
    assert list(dense.seconds) == ["density", "marching_cubes", "colors"]
    assert list(found.seconds) == ["coarse", "fine", "marching_cubes", "colors"]
    assert found.inside == dense.inside
    np.testing.assert_array_equal(found.mesh.faces, dense.mesh.faces)
    np.testing.assert_allclose(found.mesh.vertices, dense.mesh.vertices, rtol=0, atol=1e-6)
    assert dense.points == resolution**3
    assert found.points < dense.points
    return found


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
def test_hard_scenes(scene: Callable[[], Field]) -> None:
    """At the coarsest grid that a lattice is laid for, which it does not divide."""
    assert_same(scene(), 97)


@pytest.mark.slow
def test_a_scene_of_full_size(robot: Field) -> None:
    """That every hidden piece is seen costs a few points: a sixth of the grid's suffice."""
    found = assert_same(robot, 128)
    assert found.points < 128**3 / 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scene", "resolution", "least_part"),
    [(slats, 131, 1.3), (half_space, 131, 3), (islands, 160, 5)],
)
def test_cells_are_halved_twice(
    scene: Callable[[], Field], resolution: int, least_part: float
) -> None:
    found = assert_same(scene(), resolution)
    assert found.points < resolution**3 / least_part


@pytest.mark.slow
@pytest.mark.parametrize("scene", [slats, wires, islands, barely_there, with_holes])
def test_without_the_margin_pieces_are_lost(
    scene: Callable[[], Field], monkeypatch: pytest.MonkeyPatch
) -> None:
    """These scenes do hold what no corner of the first lattice sees."""
    field = scene()
    whole = surface.extract(field, 97).inside
    monkeypatch.setattr(sparse, "_SAFETY", 0.0)
    try:
        assert surface.extract(field, 97).inside != whole
    except surface.EmptySurface:
        assert whole > 0


@pytest.mark.slow
def test_the_surface_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One seen end is enough: a wire whose other parts no lattice point comes near."""
    x = texels()
    thick = tents({33: 0.0}, slope=1.5)
    along = 0.4 + 3 * (x - 0.4).clamp_min(0)  # thicker towards one end of y
    field = field_of(
        thick[:, None] + along, tents({33: 0.0}).expand(TEXELS, -1), 0 * x[:, None] + 0 * x
    )
    whole = surface.extract(field, 200, method="dense")
    monkeypatch.setattr(sparse, "_SAFETY", 0.0)
    found = surface.extract(field, 200)
    assert found.inside == whole.inside
    np.testing.assert_array_equal(found.mesh.faces, whole.mesh.faces)
    monkeypatch.setattr(sparse.Search, "_homes", lambda *_: torch.zeros((3, 0), dtype=torch.int64))
    assert len(surface.extract(field, 200).mesh.faces) < len(whole.mesh.faces)


def test_books_of_a_large_grid_leave_a_small_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, free = torch.device("cuda", 0), 6 * 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 8 * 2**30))
    assert grid.books_device(gpu, 512) == gpu
    assert grid.books_device(gpu, 1024).type == "cpu"
    assert grid.books_device(torch.device("cpu"), 1024).type == "cpu"


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [24, 64])
def test_rounding_decides_no_side(robot: Field, resolution: int) -> None:
    """With a threshold that is one point's own density, the original's rounding counts."""
    published = torch.cat(
        [
            robot.density_as_published(points)
            for points in grid_points(robot, resolution).split(1 << 14)
        ]
    )
    ours = torch.from_numpy(surface.density_grid(robot, resolution)).flatten()
    higher = (ours > published) & (published > 5) & (published < 60)
    assert higher.any()
    for threshold in published[higher][:3].tolist():
        found = surface.extract(robot, resolution, threshold)
        assert found.inside == int((published > threshold).sum())


def grid_points(field: Field, resolution: int) -> Tensor:
    axis = torch.linspace(0, 1, resolution) * (2 * field.radius) - field.radius
    return torch.cartesian_prod(axis, axis, axis)


@pytest.mark.slow
def test_a_field_that_answers_by_other_means_keeps_its_answers(robot: Field) -> None:
    class Ball(Field):
        def density(self, points: Tensor) -> Tensor:
            return 25 - 100 * (points.norm(dim=1) - 0.5)

    found = assert_same(Ball(robot.scene_code, robot.decoder, robot.renderer), 128)
    distance = np.linalg.norm(found.mesh.vertices, axis=1)
    np.testing.assert_allclose(distance, 0.5, atol=2e-3)


@pytest.mark.slow
def test_planes_finer_than_usual_are_read_at_each_texel() -> None:
    """Between the points of a lattice of 64 cells there would be room for wires a texel thick."""
    planes = torch.full((3, 1, 130, 130), -9.0)
    planes[1:] = 0.0
    planes[0, 0, range(3, 130, 7), range(3, 130, 7)] = 9.0
    small = field_of(*torch.zeros(3, TEXELS, TEXELS))
    assert_same(Field(planes, small.decoder, small.renderer), 200)


@pytest.mark.parametrize("resolution", [97, 100, 128, 131, 255, 256, 320, 512])
def test_lattices(resolution: int) -> None:
    found = sparse.lattices(resolution, 64)
    assert len(found[0]) == 65
    assert found[-1].tolist() == list(range(resolution))
    for before, after in pairwise(found):
        assert (before[0], before[-1]) == (0, resolution - 1)
        assert int(before.diff().max() - before.diff().min()) <= 1
        assert set(before.tolist()) < set(after.tolist())


# --- progress and failures -----------------------------------------------------------------------


@pytest.mark.slow
def test_progress_rises_to_its_end(robot: Field) -> None:
    seen: list[float] = []
    surface.extract(
        robot, 128, chunk_size=50_000, progress=lambda *step: seen.append(step[0] / step[1])
    )
    assert len(seen) > 7
    assert seen == sorted(seen)
    assert seen[-1] == 1


@pytest.mark.slow
@pytest.mark.parametrize("part", [0.1, 0.5])
def test_progress_cancels(robot: Field, part: float) -> None:
    class Cancelled(Exception):
        pass

    asked: list[float] = []

    def cancel(done: int, total: int) -> None:
        asked.append(done / total)
        if done / total >= part:
            raise Cancelled

    with pytest.raises(Cancelled):
        surface.extract(robot, 128, chunk_size=20_000, progress=cancel)
    assert part <= asked[-1] < 0.8


@pytest.mark.parametrize("threshold", [1e30, 1e-30])
def test_nothing_crosses_the_threshold(threshold: float) -> None:
    with pytest.raises(surface.EmptySurface, match=r"densities from .* to .* do not cross"):
        surface.extract(islands(), 100, threshold)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_densities_that_are_no_numbers(bad: float) -> None:
    field = islands()
    field.scene_code[0, 0, 30:34, 30:34] = bad
    with pytest.raises(surface.NonFiniteField, match=r"\d+ of 274625 densities are not finite"):
        surface.extract(field, 128)


# --- where vertices lie between points -----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sparse", "dense"])
def test_the_level_set_of_the_logarithm_of_the_density(method: surface.Method) -> None:
    """Where the logarithm is even, its level set is exact; the density's is not."""
    z = (texels() * 60).expand(TEXELS, -1)
    field = field_of(z * 0, z + 21.3, z * 0)
    logit = surface.extract(field, 100, method=method, level_set="logit").mesh
    np.testing.assert_allclose(logit.vertices[:, 2] / field.radius, -0.355, atol=1e-5)
    density = surface.extract(field, 100, method=method).mesh
    np.testing.assert_array_equal(logit.faces, density.faces)
    assert np.abs(density.vertices[:, 2] / field.radius + 0.355).max() > 1e-4
