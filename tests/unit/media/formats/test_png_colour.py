"""PNGs that name their colours otherwise than by a profile, against the standards' formulas."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dna_pipeline.media.images import load_image, probe
from tests.pictures import (
    CHROMATICITIES,
    D65,
    chunk,
    cicp,
    formula_curve,
    gamma,
    linear,
    png,
    power_curve,
    primaries,
    profile_chunk,
    rgb_profile,
    srgb,
    to_srgb,
)

RANDOM = np.random.default_rng(11)
COLOURS = RANDOM.integers(0, 256, (24, 40, 3)).astype(np.uint8)
DEEP = RANDOM.integers(0, 65536, (24, 40, 3)).astype(np.uint16)
RAMP = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (16, 1, 1))

CHRM = {name: (*D65, *sum(places, ())) for name, places in CHROMATICITIES.items()}
SPACES = ["P3", "Rec. 2020", "Adobe RGB"]


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Pixels and remarks of a file with these bytes."""

    def run(data: bytes) -> tuple[Any, list[str]]:
        path = tmp_path / "a.png"
        path.write_bytes(data)
        assert min(probe(path).width, probe(path).height) > 0
        remarks: list[str] = []
        return np.asarray(load_image(path, remarks)).astype(int), remarks

    return run


def off(pixels: Any, want: Any) -> float:
    """The largest difference from values that are not rounded."""
    return float(np.abs(pixels - want).max())


# gAMA


@pytest.mark.parametrize("exponent", [1.0, 1.8, 2.6, 0.8])
@pytest.mark.parametrize("values", [COLOURS, DEEP, RAMP], ids=["8 bits", "16 bits", "grey"])
def test_gamma_is_undone(read: Any, exponent: float, values: Any) -> None:
    pixels, remarks = read(png(values, gamma(1 / exponent)))
    stored = round(100_000 / exponent) / 100_000
    want = srgb((values / np.iinfo(values.dtype).max) ** (1 / stored))
    assert off(pixels, want) <= 0.51
    assert remarks == []


@pytest.mark.parametrize("value", [0.45455, 0.45, 0.4545, 0.46])
@pytest.mark.parametrize("extra", [b"", primaries(*CHRM["Rec. 709"])])
def test_gamma_near_1_over_2_2_means_srgb(read: Any, value: float, extra: bytes) -> None:
    assert off(read(png(COLOURS, gamma(value), extra))[0], COLOURS) == 0


@pytest.mark.parametrize("value", [0.0, 0.00001, 42.0])
def test_a_gamma_that_no_picture_has_is_ignored(read: Any, value: float) -> None:
    pixels, remarks = read(png(COLOURS, gamma(value)))
    assert off(pixels, COLOURS) == 0
    assert len(remarks) == 1
    assert "gAMA" in remarks[0]


def test_a_dark_linear_ramp_of_16_bits_keeps_its_steps(read: Any) -> None:
    values = np.tile(np.linspace(0, 6000, 256).astype(np.uint16)[None, :, None], (16, 1, 1))
    pixels, _ = read(png(values, gamma(1.0)))
    want = np.rint(srgb(values / 65535))
    assert off(pixels, want) == 0
    assert len(np.unique(pixels)) == len(np.unique(want)) > 80


def test_transparency_is_no_light(read: Any) -> None:
    alpha = RANDOM.integers(0, 65536, (24, 40, 1)).astype(np.uint16)
    pixels, _ = read(png(np.concatenate([DEEP, alpha], -1), gamma(1.0)))
    assert off(pixels[..., :3], srgb(DEEP / 65535)) <= 0.51
    assert off(pixels[..., 3:], alpha / 257) <= 0.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_with_alpha(read: Any, dtype: Any) -> None:
    values = RANDOM.integers(0, np.iinfo(dtype).max, (20, 30, 2)).astype(dtype)
    full = np.iinfo(dtype).max
    pixels, _ = read(png(values, gamma(1.0)))
    assert off(pixels[..., :3], srgb(values[..., :1] / full)) <= 0.51
    assert off(pixels[..., 3:], values[..., 1:] / full * 255) <= 0.51


def test_a_transparent_value_is_compared_before_the_colours_are_converted(read: Any) -> None:
    values = np.full((20, 20, 1), 700, np.uint16)
    values[:, 10:] = 701
    pixels, _ = read(png(values, gamma(1.0), chunk(b"tRNS", struct.pack(">H", 700))))
    assert (pixels[0, 0, 3], pixels[0, 15, 3]) == (0, 255)
    assert abs(pixels[0, 15, 0] - srgb(np.array(701 / 65535))) <= 0.51


def test_a_palette(read: Any) -> None:
    image = Image.new("P", (32, 32), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (16, 0, 32, 32))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=bytes([0, 128]))
    data = buffer.getvalue()
    pixels, _ = read(data[:33] + gamma(1.0) + data[33:])
    want = srgb(np.array([[10, 20, 30], [200, 100, 50]]) / 255)
    assert off(pixels[0, [0, 20], :3], want) <= 0.51
    assert pixels[0, [0, 20], 3].tolist() == [0, 128]


# cHRM


@pytest.mark.parametrize("values", [COLOURS, DEEP], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("name", SPACES)
def test_primaries_are_converted(read: Any, name: str, values: Any) -> None:
    pixels, remarks = read(png(values, gamma(1.0), primaries(*CHRM[name])))
    light = values / np.iinfo(values.dtype).max
    assert off(pixels, srgb(light @ to_srgb(name).T)) <= 1
    assert remarks == []


@pytest.mark.parametrize("extra", [b"", gamma(0.45455)])
def test_primaries_with_the_curve_of_srgb(read: Any, extra: bytes) -> None:
    pixels, _ = read(png(COLOURS, extra, primaries(*CHRM["P3"])))
    assert off(pixels, srgb(linear(COLOURS / 255) @ to_srgb("P3").T)) <= 1


def test_adobe_rgb_has_a_power_for_its_curve(read: Any) -> None:
    pixels, _ = read(png(COLOURS, gamma(0.45455), primaries(*CHRM["Adobe RGB"])))
    assert off(pixels, srgb((COLOURS / 255) ** 2.2 @ to_srgb("Adobe RGB").T)) <= 1


def test_white_stays_white(read: Any) -> None:
    white = np.full((20, 20, 3), 255, np.uint8)
    d50 = (0.3457, 0.3585, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
    assert off(read(png(white, primaries(*d50)))[0], white) <= 1


@pytest.mark.parametrize(
    "numbers",
    [
        (0,) * 8,
        (0.3127, 0.329, 0.64, 0.33, 0.64, 0.33, 0.15, 0.06),
        (0.3127, 0.0, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06),
        (0.9, 0.05, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06),
        (42000.0,) * 8,
    ],
)
def test_primaries_that_cannot_be_are_ignored(read: Any, numbers: tuple[float, ...]) -> None:
    pixels, remarks = read(png(COLOURS, primaries(*numbers)))
    assert off(pixels, COLOURS) == 0
    assert len(remarks) == 1
    assert "cHRM" in remarks[0]


# cICP


def rec709(v: Any) -> Any:
    return np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))


def pq(v: Any) -> Any:
    """Light over 203 cd/m² (ITU-R BT.2100, BT.2408)."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    p = v ** (1 / m2)
    return 10000 / 203 * (np.maximum(p - c1, 0) / (c2 - c3 * p)) ** (1 / m1)


def hlg(v: Any) -> Any:
    """Light of the scene (ITU-R BT.2100)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(v <= 0.5, v**2 / 3, (np.exp((v - c) / a) + b) / 12)


CURVES: dict[int, Any] = {
    1: rec709,
    4: lambda v: v**2.2,
    5: lambda v: v**2.8,
    8: lambda v: v,
    13: linear,
    14: rec709,
    16: pq,
}


@pytest.mark.parametrize("values", [COLOURS, DEEP], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("transfer", CURVES)
def test_each_transfer_function(read: Any, transfer: int, values: Any) -> None:
    pixels, remarks = read(png(values, cicp(1, transfer, 0, 1)))
    assert off(pixels, srgb(CURVES[transfer](values / np.iinfo(values.dtype).max))) <= 1
    assert len(remarks) == (transfer == 16)


@pytest.mark.parametrize(("number", "name"), [(9, "Rec. 2020"), (12, "P3")])
def test_other_primaries(read: Any, number: int, name: str) -> None:
    pixels, _ = read(png(COLOURS, cicp(number, 13, 0, 1)))
    assert off(pixels, srgb(linear(COLOURS / 255) @ to_srgb(name).T)) <= 1


@pytest.mark.parametrize("number", [4, 5, 6, 7, 8, 11, 22])
def test_other_primaries_keep_grey_grey(read: Any, number: int) -> None:
    grey = np.repeat(RAMP, 3, -1)
    assert off(read(png(grey, cicp(number, 13, 0, 1)))[0], grey) <= 1
    assert off(read(png(COLOURS, cicp(number, 13, 0, 1)))[0], COLOURS) > 3


def test_srgb_by_its_numbers_changes_nothing(read: Any) -> None:
    assert off(read(png(COLOURS, cicp(1, 13, 0, 1)))[0], COLOURS) == 0
    assert off(read(png(DEEP, cicp(1, 13, 0, 1)))[0], np.rint(DEEP / 257)) == 0


def test_narrow_range(read: Any) -> None:
    pixels, _ = read(png(COLOURS, cicp(1, 13, 0, 0)))
    assert off(pixels, np.clip((COLOURS - 16.0) / 219, 0, 1) * 255) <= 1
    pixels, _ = read(png(DEEP, cicp(1, 13, 0, 0)))
    assert off(pixels, np.clip((DEEP - 4096.0) / 56064, 0, 1) * 255) <= 1


def test_hdr_in_pq(read: Any) -> None:
    pixels, remarks = read(png(DEEP, cicp(9, 16, 0, 1)))
    assert off(pixels, srgb(pq(DEEP / 65535) @ to_srgb("Rec. 2020").T)) <= 1
    assert "HDR" in remarks[0]
    assert "203" in remarks[0]


def test_hdr_in_hlg(read: Any) -> None:
    pixels, remarks = read(png(DEEP, cicp(9, 18, 0, 1)))
    scene = hlg(DEEP / 65535)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    shown = 1000 / 203 * scene * luminance[..., None] ** 0.2
    assert off(pixels, srgb(shown @ to_srgb("Rec. 2020").T)) <= 1
    assert "HLG" in remarks[0]


def test_paper_white_of_hdr_is_white(read: Any) -> None:
    for transfer, share in ((16, 0.581), (18, 0.75)):
        white = np.full((20, 20, 3), round(share * 65535), np.uint16)
        assert off(read(png(white, cicp(9, transfer, 0, 1)))[0], 255) <= 1


@pytest.mark.parametrize("numbers", [(2, 2, 0, 1), (9, 99, 0, 1), (1, 13, 1, 1), (1, 1, 0, 7)])
def test_numbers_that_are_not_understood_leave_it_to_the_next_chunk(
    read: Any, numbers: tuple[int, ...]
) -> None:
    pixels, remarks = read(png(COLOURS, cicp(*numbers), gamma(1.0)))
    assert off(pixels, srgb(COLOURS / 255)) <= 0.51
    assert len(remarks) == 1
    assert "cICP" in remarks[0]


# Which one counts

LINEAR = gamma(1.0)
SRGB = chunk(b"sRGB", b"\0")
P3_PROFILE = profile_chunk(
    rgb_profile(formula_curve(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045), "P3")
)
AS_P3 = srgb(linear(COLOURS / 255) @ to_srgb("P3").T)


@pytest.mark.parametrize(
    ("chunks", "want"),
    [
        ([SRGB, LINEAR, primaries(*CHRM["P3"])], COLOURS),
        ([LINEAR, SRGB], COLOURS),
        ([P3_PROFILE, SRGB, LINEAR], AS_P3),
        ([LINEAR, P3_PROFILE], AS_P3),
        ([P3_PROFILE, cicp(1, 13, 0, 1)], COLOURS),
        ([cicp(1, 8, 0, 1), P3_PROFILE, SRGB], srgb(COLOURS / 255)),
        ([profile_chunk(b"no profile"), LINEAR], srgb(COLOURS / 255)),
        ([profile_chunk(b"no profile"), SRGB, LINEAR], COLOURS),
    ],
)
@pytest.mark.parametrize("is_deep", [False, True])
def test_the_first_that_is_understood_counts(
    read: Any, chunks: list[bytes], want: Any, is_deep: bool
) -> None:
    values = COLOURS.astype(np.uint16) * 257 if is_deep else COLOURS
    pixels, remarks = read(png(values, *chunks))
    assert off(pixels, want) <= 1.01
    has_broken = profile_chunk(b"no profile") in chunks
    assert [remark.split(" is ")[0] for remark in remarks] == (
        ["The picture's colour profile"] if has_broken else []
    )


# Damage


@pytest.mark.parametrize(
    "broken",
    [
        chunk(b"gAMA", b"\0\1"),
        chunk(b"gAMA", b""),
        chunk(b"cHRM", bytes(31)),
        chunk(b"sRGB", b""),
        chunk(b"cICP", b"\1\1\0"),
        chunk(b"cICP", bytes(40)),
        gamma(1.0)[:-1] + b"?",
        chunk(b"iCCP", b""),
        chunk(b"iCCP", b"name\0\7rest"),
        P3_PROFILE[:-1] + b"?",
    ],
)
def test_a_damaged_chunk_is_passed_over(read: Any, broken: bytes) -> None:
    pixels, remarks = read(png(COLOURS, broken, chunk(b"tEXt", b"a\0b")))
    assert off(pixels, COLOURS) == 0
    assert remarks == [f"The PNG's {broken[4:8].decode()} chunk is damaged and was ignored."]


def test_several_damaged_chunks(read: Any) -> None:
    damage = (
        chunk(b"gAMA", b"\0"),
        chunk(b"tEXt", b"a\0b"),
        chunk(b"sRGB", b""),
        chunk(b"cHRM", b"x"),
    )
    pixels, remarks = read(png(COLOURS, *damage, cicp(1, 8, 0, 1)))
    assert off(pixels, srgb(COLOURS / 255)) <= 0.51
    assert len(remarks) == 3


def test_text_that_is_called_like_a_colour_chunk_says_nothing(read: Any) -> None:
    text = [
        chunk(b"tEXt", name + b"\0" + b"1.0")
        for name in (b"gamma", b"chromaticity", b"srgb", b"icc_profile", b"alpha", b"space")
    ]
    assert off(read(png(COLOURS, *text))[0], COLOURS) == 0


def test_an_exif_rotation_of_16_bit_grey(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    path.write_bytes(png(DEEP[..., :1], chunk(b"eXIf", exif.tobytes()[6:])))
    image = load_image(path)
    assert image.size == (24, 40) == (probe(path).width, probe(path).height)
    assert off(np.asarray(image)[..., 0], np.rot90(np.rint(DEEP[..., 0] / 257), -1)) == 0


def test_power_curve_of_a_profile_and_gamma_agree(read: Any) -> None:
    """The same picture, described in two ways."""
    by_profile, _ = read(png(DEEP, profile_chunk(rgb_profile(power_curve(1.75)))))
    by_gamma, _ = read(png(DEEP, gamma(1 / 1.75)))
    assert off(by_profile, by_gamma) <= 1
