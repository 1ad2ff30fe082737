"""How a subject stands in its picture."""

from __future__ import annotations

import pytest
from PIL import Image

from dna_pipeline.media.matte import framing


def subject(box: tuple[int, int, int, int], alpha: int = 255) -> Image.Image:
    """A picture of 100 × 200 px with a subject in that box."""
    image = Image.new("RGBA", (100, 200))
    image.paste((200, 30, 30, alpha), box)
    return image


def test_a_subject_with_room_around_it_is_well():
    assert framing(subject((1, 1, 99, 199))) == []


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_picture_without_transparency_is_told(mode: str):
    (told,) = framing(Image.new(mode, (64, 64), (9, 9, 9)))
    assert "no transparent background" in told
    assert "remove_background" in told


def test_rounded_corners_are_no_transparent_background():
    picture = Image.new("RGBA", (100, 200), (200, 30, 30))
    picture.paste((0, 0, 0, 0), (0, 0, 10, 10))
    (told,) = framing(picture)
    assert "no transparent background (0.5% of it is transparent)" in told


@pytest.mark.parametrize(
    ("box", "edges"),
    [
        ((0, 50, 50, 150), "(left)"),
        ((50, 50, 100, 150), "(right)"),
        ((20, 0, 80, 150), "(top)"),
        ((0, 50, 100, 200), "(bottom, left, right)"),
    ],
)
def test_the_edges_that_it_reaches_are_named(box: tuple[int, int, int, int], edges: str):
    (told,) = framing(subject(box))
    assert edges in told


@pytest.mark.parametrize(
    "image",
    [
        subject((0, 50, 50, 54)),  # four of two hundred pixels: a stray speck
        subject((0, 0, 50, 150), alpha=127),  # haze
    ],
)
def test_specks_and_haze_at_an_edge_do_not_count(image: Image.Image):
    assert framing(image) == []
