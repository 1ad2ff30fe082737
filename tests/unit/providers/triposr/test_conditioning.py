"""From any picture to the network's picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dna_pipeline.providers.triposr.conditioning import (
    EmptyForeground,
    condition,
    crop_square,
    has_matte,
    place_foreground,
)


def rgba(height: int, width: int, box: tuple[int, int, int, int], alpha: int = 255) -> Image.Image:
    """A red box (top, left, bottom, right) on nothing."""
    pixels = np.zeros((height, width, 4), np.uint8)
    top, left, bottom, right = box
    pixels[top:bottom, left:right] = (200, 0, 0, alpha)
    return Image.fromarray(pixels)


def test_golden_bytes(tiny_folder: Path) -> None:
    with (
        Image.open(tiny_folder / "input.png") as image,
        Image.open(tiny_folder / "conditioned.png") as expected,
    ):
        found = condition(image, 0.85)
        assert found.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_where_the_foreground_comes_to_lie() -> None:
    """30 by 11 px of matte crop to 29 by 10; side 29, square int(29 / 0.6) = 48, offset 9."""
    found = np.asarray(place_foreground(rgba(50, 80, (5, 40, 35, 51)), 0.6))
    assert found.shape == (48, 48, 3)
    rows, columns = np.nonzero(found[..., 0] == 200)
    assert (rows.min(), rows.max()) == (9, 9 + 28)
    assert (columns.min(), columns.max()) == (9 + 9, 9 + 9 + 9)
    assert (found[0, 0] == 127).all()  # grey 0.5 in eight bits, truncated


def test_ratio_one_pads_nothing() -> None:
    assert place_foreground(rgba(20, 20, (2, 2, 13, 13)), 1.0).size == (10, 10)


def test_half_transparent_pixels_mix_with_grey() -> None:
    found = np.asarray(place_foreground(rgba(20, 20, (0, 0, 20, 20), alpha=51), 1.0))
    assert (found[5, 5] == (int(200 * 0.2 + 127.5 * 0.8), 102, 102)).all()


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (3, 3, 4, 9), (3, 3, 9, 4)])
def test_nothing_left(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(EmptyForeground):
        condition(rgba(20, 20, box))


@pytest.mark.parametrize("ratio", [0.0, -1.0, 1.01, float("nan")])
def test_ratios_that_mean_nothing(ratio: float) -> None:
    with pytest.raises(ValueError, match="foreground_ratio"):
        place_foreground(rgba(20, 20, (0, 0, 9, 9)), ratio)


def test_what_counts_as_a_matte() -> None:
    opaque = rgba(8, 8, (0, 0, 8, 8))
    assert not has_matte(opaque)
    assert not has_matte(opaque.convert("RGB"))
    assert not has_matte(opaque.convert("L"))
    assert has_matte(rgba(8, 8, (0, 0, 8, 7)))
    assert has_matte(rgba(8, 8, (0, 0, 8, 7)).convert("LA"))
    palette = opaque.convert("RGB").quantize(4)
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert has_matte(palette)


@pytest.mark.parametrize("size", [(512, 700), (1300, 257), (64, 64), (333, 777)])
def test_without_a_matte(size: tuple[int, int]) -> None:
    """The middle of a picture that darkens along its longer side stays in the middle."""
    width, height = size
    along_x = width >= height
    ramp = np.linspace(0, 255, max(size)).astype(np.uint8)
    shape = (height, width)
    pixels = np.broadcast_to(ramp if along_x else ramp[:, None], shape)
    found = np.asarray(condition(Image.fromarray(pixels.copy())))
    assert found.shape == (512, 512, 3)
    line = found[256, :, 0] if along_x else found[:, 256, 0]
    half = 127.5 * min(size) / max(size)
    assert abs(float(line[0]) - (127.5 - half)) < 4
    assert abs(float(line[-1]) - (127.5 + half)) < 4


def test_square_pictures_of_the_right_size_stay_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(crop_square(Image.fromarray(pixels))), pixels)
