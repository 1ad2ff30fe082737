"""Masks at the size and in the cells in which a model reads them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dna_pipeline.media.repaint_mask import brightest, in_cells


def greys(size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 256, size[::-1]) * (rng.random(size[::-1]) < 0.1)
    return Image.fromarray(values.astype(np.uint8))


@pytest.mark.parametrize(
    ("old", "new"),
    [((40, 24), (5, 3)), ((41, 23), (17, 16)), ((23, 41), (23, 9)), ((9, 7), (64, 30)),
     ((10, 12), (11, 11)), ((1, 1), (3, 2)), ((5, 6), (1, 1)), ((8, 8), (8, 8))],
)  # fmt: skip
def test_each_pixel_is_the_brightest_that_it_covers(old: tuple[int, int], new: tuple[int, int]):
    mask = greys(old)
    values = np.asarray(mask)
    result = brightest(mask, new)
    assert result.size == new
    for y, x in np.ndindex(new[1], new[0]):
        rows = slice(y * old[1] // new[1], -(-(y + 1) * old[1] // new[1]))
        columns = slice(x * old[0] // new[0], -(-(x + 1) * old[0] // new[0]))
        assert result.getpixel((x, y)) == values[rows, columns].max()


def test_a_cell_is_white_if_any_pixel_of_it_is():
    mask = Image.new("L", (32, 24))
    mask.putpixel((9, 7), 128)
    mask.putpixel((31, 23), 255)
    mask.putpixel((0, 16), 127)
    expected = Image.new("L", (32, 24))
    expected.paste(255, (8, 0, 16, 8))
    expected.paste(255, (24, 16, 32, 24))
    assert in_cells(mask, 8).tobytes() == expected.tobytes()
