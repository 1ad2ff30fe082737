"""Pictures that keep their size: what the model sees of them, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dna_pipeline.stages.img2img.working_size import Size, WorkingSize


def noise(size: Size, bands: int = 3) -> Image.Image:
    shape = (size[1], size[0], bands) if bands > 1 else size[::-1]
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


@pytest.mark.parametrize(
    ("source", "max_size", "scaled", "padded"),
    [
        ((512, 512), 768, (512, 512), (512, 512)),
        ((333, 517), 768, (333, 517), (336, 520)),
        ((1, 1), 768, (1, 1), (64, 64)),
        ((16, 30), 768, (16, 30), (64, 64)),
        ((8000, 6000), 768, (768, 576), (768, 576)),
        ((8000, 1), 768, (768, 1), (768, 64)),
        ((1000, 999), 100, (100, 100), (104, 104)),
        ((768, 513), 768, (768, 513), (768, 520)),
    ],
)
def test_sizes(source: Size, max_size: int, scaled: Size, padded: Size):
    assert WorkingSize.of(source, max_size) == WorkingSize(source, scaled, padded)
    turned = WorkingSize.of(source[::-1], max_size)
    assert turned == WorkingSize(source[::-1], scaled[::-1], padded[::-1])


@pytest.mark.parametrize("size", [(333, 517), (1, 1), (64, 65), (3, 900), (200, 8)])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_the_way_there_and_back_changes_no_pixel(size: Size, bands: int):
    picture = noise(size, bands)
    way = WorkingSize.of(size, 1000)
    seen = way.enter(picture)
    assert (seen.size, seen.mode) == (way.padded, picture.mode)
    assert way.leave(seen).tobytes() == picture.tobytes()


def test_the_margin_mirrors_the_picture():
    picture = noise((70, 61))
    seen = np.asarray(WorkingSize.of(picture.size, 768).enter(picture))
    assert seen.shape == (64, 72, 3)
    assert (seen[:61, 70:] == seen[:61, 69:67:-1]).all()
    assert (seen[61:] == seen[60:57:-1]).all()


def test_a_smaller_working_size_is_told_and_undone():
    picture = Image.linear_gradient("L").convert("RGB").resize((2001, 1001))
    way = WorkingSize.of(picture.size, 768)
    back = way.leave(way.enter(picture))
    assert back.size == picture.size
    assert np.abs(np.asarray(back, float) - np.asarray(picture, float)).mean() < 1
    assert way.remarks(768) == [
        "The picture of 2001 x 1001 px was redrawn at 768 x 384 px and brought back to its own "
        "size: max_size is 768."
    ]
    assert WorkingSize.of((333, 517), 768).remarks(768) == []


def test_a_mask_keeps_black_and_white():
    mask = Image.new("L", (1000, 1000), 0)
    mask.paste(255, (0, 0, 500, 1000))
    seen = np.asarray(WorkingSize.of(mask.size, 300).enter_mask(mask))[:, :300]
    assert set(np.unique(seen[:, :140])) == {255}
    assert set(np.unique(seen[:, 160:])) == {0}
