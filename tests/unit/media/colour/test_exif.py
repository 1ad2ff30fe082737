"""JPEGs of cameras that name Adobe RGB in EXIF alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from dna_pipeline.media.images import load_image
from tests.pictures import formula_curve, rgb_profile, srgb, to_srgb

PATCHES = np.kron(
    np.random.default_rng(9).integers(40, 216, (3, 4, 3)), np.ones((16, 16, 1), int)
).astype(np.uint8)


def saved(folder: Path, named: int | None, index: str | None, **more: Any) -> tuple[Any, Any]:
    """The pixels that are stored, and those that are read."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 1
    if named is not None:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = named
    if index is not None:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: index}
    path = folder / "a.jpg"
    Image.fromarray(PATCHES).save(path, exif=exif, quality=98, subsampling=0, **more)
    with Image.open(path) as image:
        stored = np.asarray(image.convert("RGB"), int)
    return stored, np.asarray(load_image(path), int)


@pytest.mark.parametrize(("named", "index"), [(0xFFFF, "R03"), (2, None), (2, "R98")])
def test_adobe_rgb(tmp_path: Path, named: int, index: str | None) -> None:
    stored, pixels = saved(tmp_path, named, index)
    want = srgb((stored / 255) ** (563 / 256) @ to_srgb("Adobe RGB").T)
    assert np.abs(pixels - want).max() <= 1
    assert np.abs(pixels - stored).max() > 5


@pytest.mark.parametrize(
    ("named", "index"),
    [(1, "R98"), (1, None), (0xFFFF, "R98"), (0xFFFF, None), (None, "R03"), (None, None), (7, "x")],
)
def test_all_others_are_srgb(tmp_path: Path, named: int | None, index: str | None) -> None:
    stored, pixels = saved(tmp_path, named, index)
    assert np.array_equal(pixels, stored)


def test_a_profile_goes_first(tmp_path: Path) -> None:
    curve = formula_curve(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    stored, pixels = saved(tmp_path, 0xFFFF, "R03", icc_profile=rgb_profile(curve))
    assert np.array_equal(pixels, stored)
