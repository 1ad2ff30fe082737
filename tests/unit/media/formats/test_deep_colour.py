"""Pictures of 16 bits with a colour profile: it is applied before they are rounded to 8."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from dna_pipeline.media.images import load_image
from tests.pictures import (
    formula_curve,
    grey_profile,
    icc,
    linear,
    page,
    png,
    power_curve,
    profile_chunk,
    rgb_profile,
    srgb,
    table_curve,
    tiff,
    to_srgb,
    xyz,
)

COLOURS = np.random.default_rng(3).integers(0, 65536, (24, 40, 4)).astype(np.uint16)
DARK = np.tile(np.linspace(0, 6600, 256).astype(np.uint16)[None, :, None], (16, 1, 1))


def in_png(values: Any, profile: bytes, folder: Path) -> Any:
    path = folder / "a.png"
    path.write_bytes(png(values, profile_chunk(profile)))
    return np.asarray(load_image(path)).astype(int)


def in_tiff(values: Any, profile: bytes, folder: Path) -> Any:
    path = folder / "a.tif"
    grey = values.shape[-1] < 3
    extra = ["unassalpha"] if values.shape[-1] in (2, 4) else None
    kind = "minisblack" if grey else "rgb"
    options: dict[str, Any] = {"compression": "zlib", "iccprofile": profile}
    flat = values[..., 0] if values.shape[-1] == 1 else values
    tifffile.imwrite(path, flat, photometric=kind, extrasamples=extra, **options)
    return np.asarray(load_image(path)).astype(int)


Read = Callable[[Any, bytes, Path], Any]
both = pytest.mark.parametrize("read", [in_png, in_tiff], ids=["PNG", "TIFF"])
SRGB_TABLE = table_curve(linear(np.linspace(0, 1, 1024)))
SRGB_FORMULA = formula_curve(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
LINEAR = rgb_profile(power_curve(1.0))

RGB_PROFILES: dict[str, tuple[bytes, str, Any]] = {
    "linear": (LINEAR, "Rec. 709", lambda v: v),
    "no curve": (rgb_profile(b"curv" + bytes(8)), "Rec. 709", lambda v: v),
    "gamma 1.8": (rgb_profile(power_curve(1.8125)), "Rec. 709", lambda v: v**1.8125),
    "Display P3": (rgb_profile(SRGB_FORMULA, "P3"), "P3", linear),
    "P3, a table": (rgb_profile(SRGB_TABLE, "P3"), "P3", linear),
    "linear P3": (rgb_profile(formula_curve(0, 1.0), "P3"), "P3", lambda v: v),
    "Adobe RGB": (
        rgb_profile(power_curve(563 / 256), "Adobe RGB"),
        "Adobe RGB",
        lambda v: v ** (563 / 256),
    ),
    "an offset": (
        rgb_profile(formula_curve(1, 2.0, 1.25, -0.25)),
        "Rec. 709",
        lambda v: np.maximum(1.25 * v - 0.25, 0) ** 2,
    ),
    "seven numbers": (
        rgb_profile(formula_curve(4, 2.0, 0.9, 0.0, 0.2, 0.3, 0.19, 0.0)),
        "Rec. 709",
        lambda v: np.where(v >= 0.3, (0.9 * v) ** 2 + 0.19, 0.2 * v),
    ),
}


@both
@pytest.mark.parametrize("name", RGB_PROFILES)
def test_colour(read: Read, name: str, tmp_path: Path) -> None:
    profile, space, curve = RGB_PROFILES[name]
    pixels = read(COLOURS, profile, tmp_path)
    want = srgb(curve(COLOURS[..., :3] / 65535) @ to_srgb(space).T)
    assert np.abs(pixels[..., :3] - want).max() <= 1
    assert np.array_equal(pixels[..., 3], np.rint(COLOURS[..., 3] / 257))


@both
@pytest.mark.parametrize("exponent", [1.0, 1.5, 2.5])
@pytest.mark.parametrize("channels", [1, 2])
def test_grey(read: Read, exponent: float, channels: int, tmp_path: Path) -> None:
    values = COLOURS[..., :channels]
    pixels = read(values, grey_profile(power_curve(exponent)), tmp_path)
    want = srgb((values[..., :1] / 65535) ** exponent)
    assert np.abs(pixels[..., :3] - want).max() <= 1
    if channels == 2:
        assert np.array_equal(pixels[..., 3], np.rint(values[..., 1] / 257))


@both
@pytest.mark.parametrize("is_grey", [True, False])
def test_a_dark_ramp_keeps_its_levels(read: Read, is_grey: bool, tmp_path: Path) -> None:
    profile = grey_profile(power_curve(1.0)) if is_grey else LINEAR
    values = DARK if is_grey else np.repeat(DARK, 3, -1)
    pixels = read(values, profile, tmp_path)
    want = np.rint(srgb(DARK / 65535)).astype(int)
    assert len(np.unique(pixels)) == len(np.unique(want)) > 80
    assert np.abs(pixels - want).max() <= 1


def test_grey_pixels_with_a_profile_for_rgb(tmp_path: Path) -> None:
    pixels = in_png(DARK, LINEAR, tmp_path)
    assert np.abs(pixels - srgb(DARK / 65535)).max() <= 1


@both
def test_it_agrees_with_little_cms_where_8_bits_are_enough(read: Read, tmp_path: Path) -> None:
    steps = np.random.default_rng(4).integers(0, 256, (24, 40, 3)).astype(np.uint8)
    for profile, _, _ in RGB_PROFILES.values():
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            "RGB",
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
        want = ImageCms.applyTransform(Image.fromarray(steps), transform)
        pixels = read(steps.astype(np.uint16) * 257, profile, tmp_path)
        assert np.abs(pixels - np.asarray(want, int)).max() <= 1


@both
def test_a_profile_that_is_srgb_s_changes_nothing(read: Read, tmp_path: Path) -> None:
    pixels = read(COLOURS[..., :3], rgb_profile(SRGB_FORMULA), tmp_path)
    assert np.array_equal(pixels, np.rint(COLOURS[..., :3] / 257))


BROKEN = [
    b"nothing",
    LINEAR[:150],
    LINEAR.replace(b"curv", b"none"),
    LINEAR.replace(b"acsp", b"????"),
    grey_profile(power_curve(1.0)),
]


@both
@pytest.mark.parametrize("profile", BROKEN)
def test_a_broken_or_foreign_profile_is_ignored(read: Read, profile: bytes, tmp_path: Path) -> None:
    pixels = read(COLOURS[..., :3], profile, tmp_path)
    assert np.array_equal(pixels, np.rint(COLOURS[..., :3] / 257))


def profile_with_tables() -> bytes:
    """RGB to CIELAB by a table in which every colour is a light red."""
    ramp, corner = bytes(range(256)), bytes((136, 208, 195))
    identity = [65536, 0, 0, 0, 65536, 0, 0, 0, 65536]
    matrix = b"".join(number.to_bytes(4, "big") for number in identity)
    table = b"mft1\0\0\0\0" + bytes([3, 3, 2, 0]) + matrix + ramp * 3 + corner * 8 + ramp * 3
    return icc(b"RGB ", {b"wtpt": xyz(0.9642, 1, 0.8249), b"A2B0": table}).replace(
        b"XYZ \0\0\0\0\0\0", b"Lab \0\0\0\0\0\0", 1
    )


@both
def test_a_profile_with_tables_is_applied_to_8_bits(read: Read, tmp_path: Path) -> None:
    profile = profile_with_tables()
    assert profile[20:24] == b"Lab "
    eight = np.rint(COLOURS[..., :3] / 257).astype(np.uint8)
    (tmp_path / "b.png").write_bytes(png(eight, profile_chunk(profile)))
    want = np.asarray(load_image(tmp_path / "b.png"), int)
    assert want[..., 0].min() > 200
    assert want[..., 1:].max() < 80
    assert np.array_equal(read(COLOURS[..., :3], profile, tmp_path), want)


def test_premultiplied_colours_are_divided_before_the_profile_is_applied(tmp_path: Path) -> None:
    alpha = np.maximum(COLOURS[..., 3:], 20_000)
    stored = np.minimum(COLOURS[..., :3], alpha)
    path = tmp_path / "a.tif"
    samples = np.concatenate([stored, alpha], -1)
    path.write_bytes(tiff(page(samples, 2, 1, _34675=LINEAR)))
    pixels = np.asarray(load_image(path), int)
    assert np.abs(pixels[..., :3] - srgb(stored / alpha)).max() <= 1
    path.write_bytes(tiff(page(samples, 2, 1)))
    pixels = np.asarray(load_image(path), int)
    assert np.abs(pixels[..., :3] - 255.0 * stored / alpha).max() <= 0.51
    assert np.array_equal(pixels[..., 3:], np.rint(alpha / 257))
