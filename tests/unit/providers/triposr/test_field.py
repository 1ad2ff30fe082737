"""Density and colour at points."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dna_pipeline.providers.triposr.config import ConfigError, DecoderConfig, RendererConfig
from dna_pipeline.providers.triposr.decoder import Decoder
from dna_pipeline.providers.triposr.field import Field
from dna_pipeline.providers.triposr.network import TSR

GOLDEN = Path(__file__).parents[3] / "golden"


def test_density_and_color(tiny_field: Field, expected: Mapping[str, Any]) -> None:
    points = torch.as_tensor(expected["points"])
    density, color = tiny_field.density_and_color(points)
    np.testing.assert_allclose(density.numpy(), expected["density"], rtol=1e-4)
    np.testing.assert_allclose(color.numpy(), expected["color"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(tiny_field.density(points), density, rtol=1e-4)


@pytest.mark.parametrize("scene", ["robot", "knot"])
def test_scenes(scene: str) -> None:
    field = Field.from_npz(GOLDEN / "scenes" / f"{scene}.npz")
    with np.load(GOLDEN / "scenes" / f"{scene}.expected.npz") as arrays:
        index, expected = arrays["sample_index_128"], arrays["sample_density_128"]
    points = torch.as_tensor(index / 127 * 2 * field.radius - field.radius, dtype=torch.float32)
    np.testing.assert_allclose(field.density(points), expected, rtol=1e-4)


def test_half_precision_stays_near(tiny: TSR, robot: Field) -> None:
    """The decoder alone is rounded; positions are not."""
    points = (torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1) * 0.8
    coarse = Field(robot.scene_code, half_decoder(robot.decoder), robot.renderer)
    density, color = coarse.density_and_color(points)
    assert density.dtype == color.dtype == torch.float32
    exact = robot.density(points)
    inside, coarse_inside = exact > 25, density > 25
    assert (inside == coarse_inside).float().mean() > 0.99
    assert inside.sum() > 10


def half_decoder(decoder: Decoder) -> Decoder:
    copy = Decoder(decoder.config)
    copy.load_state_dict(decoder.state_dict())
    return copy.to(torch.bfloat16).requires_grad_(False)


def plane_field(reduction: str) -> Field:
    """Three planes of one channel, constant 1, 10 and 100, and a decoder that adds them up."""
    width = 3 if reduction == "concat" else 1
    config = DecoderConfig(in_channels=width, n_neurons=4, n_hidden_layers=1, activation="none")
    decoder = Decoder(config).requires_grad_(False)
    for parameter in decoder.parameters():
        parameter.fill_(1.0 if parameter.ndim == 2 else 0.0)
    planes = torch.tensor([1.0, 10.0, 100.0])[:, None, None, None].expand(3, 1, 4, 4)
    renderer = RendererConfig(
        radius=0.5, feature_reduction=reduction, density_activation="none", density_bias=-2.0
    )
    return Field(planes, decoder, renderer)


@pytest.mark.slow
@pytest.mark.parametrize(("reduction", "total"), [("concat", 111.0), ("mean", 37.0)])
def test_how_planes_are_joined(reduction: str, total: float) -> None:
    field = plane_field(reduction)
    density = field.density(torch.tensor([[0.1, 0.0, -0.1], [5.0, 5.0, 5.0]]))
    torch.testing.assert_close(density, torch.tensor([4 * total - 2, -2.0]))


@pytest.mark.slow
def test_which_coordinates_read_which_plane() -> None:
    """Planes are indexed (x, y), (x, z), (y, z): the first coordinate along the columns."""
    field = plane_field("concat")
    ramp = torch.tensor([-0.75, -0.25, 0.25, 0.75]).expand(4, 4)  # each column's place
    field.scene_code = torch.stack([ramp, torch.zeros(4, 4), 10 * ramp.T])[:, None]
    x, y, z = 0.5, 0.6, -0.25
    density = field.density(torch.tensor([[x, y, z]]) * field.radius)
    torch.testing.assert_close(density, torch.tensor([4 * (x + 10 * z) - 2]))


@pytest.mark.parametrize("reduction", ["concat", "mean"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("hidden", "act"), [(0, "silu"), (1, "gelu"), (3, "silu"), (2, "relu")])
def test_projected_planes_answer_as_the_original(
    reduction: str, bias: bool, hidden: int, act: str
) -> None:
    """Whatever the decoder's shape, on planes that are no squares, beside the box too."""
    torch.manual_seed(5)
    width = 12 if reduction == "concat" else 4
    decoder = Decoder(DecoderConfig(width, 8, hidden, act, bias)).requires_grad_(False)
    renderer = replace(RendererConfig(radius=0.5), feature_reduction=reduction)
    field = Field(torch.randn(3, 4, 5, 9), decoder, renderer)
    points = torch.rand(500, 3) * 1.4 - 0.7
    points[:4] = torch.tensor([[0.5, 0.5, 0.5], [-0.5, -0.5, -0.5], [1e9, 0, 0], [0, -1e9, 7]])
    raw = decoder(field.features(points))
    density, color = field.density_and_color(points)
    torch.testing.assert_close(density, torch.exp(raw[:, 0] - 1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(color, torch.sigmoid(raw[:, 1:]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(field.density(points), density)
    torch.testing.assert_close(field.density_as_published(points), density, rtol=1e-5, atol=1e-6)


def test_reading_changes_no_weights(robot: Field) -> None:
    """Activations overwrite what a layer answered, never what others hold."""
    before = [tensor.clone() for tensor in (robot.scene_code, *robot.decoder.parameters())]
    points = torch.rand(50, 3) - 0.5
    first = robot.density(points)
    robot.density_and_color(points)
    assert torch.equal(robot.density(points), first)
    after = (robot.scene_code, *robot.decoder.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_scene_code_that_does_not_fit(robot: Field) -> None:
    with pytest.raises(ValueError, match=r"expected \(3, 40, H, W\), got \(3, 39, 64, 64\)"):
        Field(robot.scene_code[:, :39], robot.decoder, robot.renderer)
    mean = replace(robot.renderer, feature_reduction="mean")
    with pytest.raises(ValueError, match=r"expected \(3, 120, H, W\)"):
        Field(robot.scene_code, robot.decoder, mean)


def test_files_that_are_no_scene(tmp_path: Path) -> None:
    path = tmp_path / "scene.npz"
    np.savez(path, other=np.zeros(1))
    with pytest.raises(ConfigError, match="no array scene_code"):
        Field.from_npz(path)
    np.savez(path, scene_code=np.zeros((3, 40, 2, 2)))
    with pytest.raises(ConfigError, match="no decoder"):
        Field.from_npz(path)
