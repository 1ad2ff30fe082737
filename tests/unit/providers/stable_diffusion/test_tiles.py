"""Pictures redrawn in tiles, by the small model and by one that sees far."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook

from dna_pipeline.providers.base import Device
from dna_pipeline.providers.stable_diffusion.provider import StableDiffusion
from dna_pipeline.providers.stable_diffusion.samplers import SAMPLERS
from dna_pipeline.providers.stable_diffusion.tiles import Grid, Span, blended
from tests.unit.providers.stable_diffusion.conftest import CPU, REQUEST, ignore, provider

pytestmark = [
    pytest.mark.slow,  # loading a model imports Diffusers, which takes seconds
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning",
    ),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

Size = tuple[int, int]
SIZES: list[tuple[Size, int]] = [
    ((256, 256), 128),
    ((320, 200), 128),
    ((136, 408), 128),
    ((328, 264), 192),
]


# ---------------------------------------------------------------- the grid


@pytest.mark.parametrize("tile", [16, 17, 96])
def test_tiles_cover_a_length_with_overlaps(tile: int):
    for length in range(1, 700):
        spans = Grid.over(length * 8, 8, tile * 8).columns
        assert (spans[0].start, spans[-1].end) == (0, length)
        assert {span.end - span.start for span in spans} == {min(tile, length)}
        overlaps = [a.end - b.start for a, b in pairwise(spans)]
        assert all(overlap >= tile // 4 for overlap in overlaps)
        if len(spans) > 1:  # with one tile fewer, some overlap would be too small
            assert length > (len(spans) - 1) * tile - (len(spans) - 2) * (tile // 4)


def test_the_pixels_of_a_grid():
    grid = Grid.over(1536, 768, 768)
    assert grid == Grid((Span(0, 96),), (Span(0, 96), Span(48, 144), Span(96, 192)))
    assert grid.pixels == 3 * 768**2


# ---------------------------------------------------------------- blending


@pytest.mark.parametrize(("size", "tile"), SIZES)
@pytest.mark.parametrize("makes_px", [1, 8])
def test_equal_results_are_blended_to_themselves(size: Size, tile: int, makes_px: int):
    grid = Grid.over(*size, tile)
    values = torch.rand(2, 3, size[1] // 8, size[0] // 8)

    def enlarged(part: Tensor) -> Tensor:
        return part.repeat_interleave(makes_px, -1).repeat_interleave(makes_px, -2)

    found = blended(values, grid, enlarged, reads_px=1, makes_px=makes_px)
    torch.testing.assert_close(found, enlarged(values))


@pytest.mark.parametrize(("size", "tile"), SIZES)
def test_tiles_of_different_tone_have_no_step_between_them(size: Size, tile: int):
    """Between two tiles lies a quarter of one at least, over which a tone passes into the next: a
    cut would be a step of up to 1."""
    tones = iter(np.random.default_rng(0).random(100))
    grid = Grid.over(*size, tile)
    values = torch.zeros(1, 1, size[1], size[0])

    def toned(part: Tensor) -> Tensor:
        return torch.full_like(part, float(next(tones)))

    found = blended(values, grid, toned, reads_px=8, makes_px=8)
    steepest = max(float(found.diff(dim=axis).abs().max()) for axis in (-1, -2))
    assert steepest <= np.pi / 2 / (tile // 8 // 4 * 8) * 1.01


# ---------------------------------------------------------------- the picture


def texture(size: Size) -> Image.Image:
    """Soft spots, alike everywhere and without a period."""
    noise = np.random.default_rng(1).normal(size=(*size[::-1], 3))
    return Image.fromarray(
        np.clip(128 + gaussian_filter(noise, (3, 3, 0)) * 900, 0, 255).astype(np.uint8)
    )


@pytest.fixture(scope="module")
def far_sighted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    """A model with random weights: through attention and its norms, each pixel depends on all that
    the model sees, so that two tiles disagree where they overlap."""
    diffusers: Any = import_module("diffusers")
    target = Path(shutil.copytree(folder, tmp_path_factory.mktemp("models") / "random"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        diffusers.UNet2DConditionModel(
            sample_size=32, layers_per_block=1, block_out_channels=(32, 64), norm_num_groups=8,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=32,
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ).save_pretrained(target / "unet")  # fmt: skip
        diffusers.AutoencoderKL(
            layers_per_block=1, norm_num_groups=4, block_out_channels=(8, 16, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        ).save_pretrained(target / "vae")  # fmt: skip
    return provider(target).load(CPU)


def pair(
    model: StableDiffusion, size: Size, tile: int, **changes: Any
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A picture redrawn at once, and in tiles."""
    request, picture = replace(REQUEST, **changes), texture(size)
    whole = model.redraw(picture, request, ignore)
    in_tiles = model.redraw(picture, replace(request, tile=tile), ignore)
    assert whole.size == in_tiles.size == size
    return np.asarray(whole, float), np.asarray(in_tiles, float)


def seam_measure(picture: np.ndarray[Any, Any], size: Size, tile: int) -> float:
    """Mean difference of neighbours across the edges of tiles, divided by that elsewhere."""
    grid = Grid.over(*size, tile)
    at: list[np.ndarray[Any, Any]] = []
    elsewhere: list[np.ndarray[Any, Any]] = []
    for axis, spans in enumerate((grid.rows, grid.columns)):
        steps = np.abs(np.diff(picture, axis=axis)).mean(axis=(1 - axis, 2))
        edges = {s.start * 8 - 1 for s in spans[1:]} | {s.end * 8 - 1 for s in spans[:-1]}
        is_edge = np.isin(np.arange(len(steps)), list(edges))
        at.append(steps[is_edge])
        elsewhere.append(steps[~is_edge])
    return float(np.concatenate(at).mean() / np.concatenate(elsewhere).mean())


@pytest.mark.parametrize("size", [(128, 128), (96, 128), (128, 72)])
def test_a_picture_that_is_not_larger_than_the_tile_is_the_same(model: StableDiffusion, size: Size):
    whole, in_tiles = pair(model, size, 128)
    assert (whole == in_tiles).all()


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_all_tiles_share_one_noise_field(model: StableDiffusion, sampler: str):
    """The small model sees little beyond a pixel, so that tiles change next to nothing, unless the
    noise were another one."""
    size, tile = (320, 200), 128
    whole, in_tiles = pair(model, size, tile, sampler=sampler)
    assert np.abs(whole - in_tiles).mean() < 0.5
    other, _ = pair(model, size, tile, sampler=sampler, seed=8)
    assert np.abs(whole - other).mean() > 2
    ratio = seam_measure(in_tiles, size, tile) / seam_measure(whole, size, tile)
    assert ratio < 1.05


@pytest.mark.parametrize(("size", "tile"), SIZES)
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde"])
def test_no_seams_between_tiles_that_disagree(
    far_sighted: StableDiffusion, size: Size, tile: int, sampler: str
):
    """The picture made at once is the measure, since the decoder draws a lattice of its own along
    which tiles are cut."""
    whole, in_tiles = pair(far_sighted, size, tile, sampler=sampler)
    assert (whole != in_tiles).any()
    assert seam_measure(in_tiles, size, tile) <= 1.05 * seam_measure(whole, size, tile)


def test_equal_jobs_make_equal_pictures_in_tiles(far_sighted: StableDiffusion):
    request = replace(REQUEST, sampler="euler_a", tile=128)
    picture = texture((200, 136))
    first = far_sighted.redraw(picture, request, ignore).tobytes()
    assert far_sighted.redraw(picture, request, ignore).tobytes() == first
    at_once = far_sighted.redraw(picture, replace(request, tile=None), ignore).tobytes()
    assert at_once != first
    assert far_sighted.redraw(picture, request, ignore).tobytes() == first


def test_every_tile_gets_the_whole_prompt(far_sighted: StableDiffusion):
    picture = texture((200, 136))
    texts = ["a (clay:1.3) figurine", "a (clay:1.3) figurine BREAK of a horse"]
    made = [
        far_sighted.redraw(picture, replace(REQUEST, prompt=text, tile=128), ignore)
        for text in texts
    ]
    assert made[0].tobytes() != made[1].tobytes()


def test_steps_are_counted_as_without_tiles(model: StableDiffusion):
    def steps(tile: int | None) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        request = replace(REQUEST, tile=tile)
        model.redraw(texture((200, 136)), request, lambda *step: found.append(step))
        return found

    assert steps(128) == steps(None)


@contextmanager
def largest_inputs() -> Iterator[dict[str, int]]:
    """The largest height or width that parts of a model read, by the names of their classes."""
    found: dict[str, int] = {}

    def note(module: Any, inputs: tuple[Any, ...]) -> None:
        name = type(module).__name__
        if name in ("UNet2DConditionModel", "Encoder", "Decoder"):
            found[name] = max(found.get(name, 0), *inputs[0].shape[-2:])

    handle = register_module_forward_pre_hook(note)
    try:
        yield found
    finally:
        handle.remove()


@pytest.mark.parametrize("saves_memory", [False, True])
def test_the_model_sees_no_more_than_a_tile(model: StableDiffusion, saves_memory: bool):
    request = replace(REQUEST, tile=128, saves_memory=saves_memory)
    with largest_inputs() as found:
        model.redraw(texture((520, 200)), request, ignore)
    assert found["UNet2DConditionModel"] == found["Decoder"] == 16
    assert found["Encoder"] == 128
    with largest_inputs() as found:
        model.redraw(texture((328, 136)), replace(request, tile=None), ignore)
    assert found["UNet2DConditionModel"] == 41


def test_types_of_16_bits_are_blended(folder: Path):
    short = provider(folder).load(Device("cpu", "bfloat16"))
    whole, in_tiles = pair(short, (200, 136), 128)
    assert np.abs(whole - in_tiles).mean() < 3
