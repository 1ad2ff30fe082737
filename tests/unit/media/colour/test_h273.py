"""Colour spaces by the numbers of ITU-T H.273."""

import numpy as np
import pytest

from dna_pipeline.media.colour import h273

COLOURS = np.random.default_rng(5).integers(0, 256, (20, 30, 3)).astype(np.uint8)


def test_srgb_needs_no_conversion() -> None:
    assert h273.colour_space(1, 13) is None
    assert h273.colour_space(1, 13, is_narrow=True) is not None
    assert h273.colour_space(12, 13) is not None


@pytest.mark.parametrize(
    "numbers", [(0, 13), (2, 13), (10, 13), (200, 13), (1, 2), (9, 11), (1, 12), (1, 200)]
)
def test_numbers_that_are_not_read(numbers: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="number"):
        h273.colour_space(*numbers)


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ((0, 0), (1, 13)),
        ((2, 2), (1, 13)),
        ((200, 200), (1, 13)),
        ((12, 1), (12, 13)),
        ((6, 6), (6, 13)),
        ((9, 16), (9, 16)),
        ((9, 18), (9, 18)),
        ((1, 8), (1, 8)),
    ],
)
def test_what_screens_show_can_be_computed(
    numbers: tuple[int, int], shown: tuple[int, int]
) -> None:
    assert h273.shown_as(*numbers) == shown
    space = h273.colour_space(*shown)
    assert (space is None) == (shown == (1, 13))


def test_the_curve_of_a_camera_is_not_the_one_that_screens_show() -> None:
    by_camera, shown = h273.colour_space(1, 1), h273.colour_space(*h273.shown_as(1, 1))
    assert by_camera is not None
    assert shown is None
    assert np.abs(by_camera.pixels(COLOURS).astype(int) - COLOURS).max() > 5


@pytest.mark.parametrize(("transfer", "curve"), [(16, "PQ"), (18, "HLG"), (13, ""), (1, "")])
def test_hdr_gets_a_remark(transfer: int, curve: str) -> None:
    remarks = h273.hdr_remarks("PNG", transfer)
    assert [f"The PNG is an HDR picture ({curve})" in remark for remark in remarks] == (
        [True] if curve else []
    )
