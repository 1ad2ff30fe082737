"""Pictures at another size, on a background, and inverted."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dna_pipeline.media.flat import flattened, inverted, resized


def half_clear() -> Image.Image:
    """Two pixels, red and nothing."""
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    return image


@pytest.mark.parametrize(("background", "value"), [("white", 255), ("black", 0)])
def test_the_background_shows_through(background: str, value: int):
    result = flattened(half_clear(), background)
    assert (result.mode, result.tobytes()) == ("RGB", bytes((255, 0, 0, value, value, value)))


def test_an_opaque_picture_only_changes_its_mode():
    assert flattened(Image.new("L", (1, 1), 7)).tobytes() == bytes((7, 7, 7))


def test_a_picture_of_that_size_is_itself():
    image = half_clear()
    assert resized(image, (2, 1)) is image


@pytest.mark.parametrize(
    ("mode", "way"),
    [("L", Image.Resampling.BILINEAR), ("RGB", Image.Resampling.LANCZOS),
     ("RGBA", Image.Resampling.LANCZOS)],
)  # fmt: skip
def test_masks_do_not_overshoot(mode: str, way: Image.Resampling):
    image = Image.new(mode, (12, 12), "black")
    image.paste("white", (0, 0, 6, 12))
    assert resized(image, (40, 30)).tobytes() == image.resize((40, 30), way).tobytes()


def test_inverted():
    values = np.arange(256, dtype=np.uint8)[None]
    assert np.array_equal(np.asarray(inverted(Image.fromarray(values))), 255 - values)
