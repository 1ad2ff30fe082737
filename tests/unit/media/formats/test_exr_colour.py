"""Colour spaces of OpenEXR pictures: the expected light comes from published matrices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dna_pipeline.media.formats import exr
from dna_pipeline.media.images import load_image
from tests.exr_files import shown, write_exr, write_luminance_chroma, write_parts

ACESCG = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)
REC_709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)

PUBLISHED = {
    "ACEScg (AP1)": (  # ACES: AP1 to XYZ (S-2014-004), D60 to D65 by Bradford, XYZ to Rec. 709
        ACESCG,
        [
            [1.70505, -0.62179, -0.08326],
            [-0.13026, 1.14080, -0.01055],
            [-0.02400, -0.12897, 1.15297],
        ],
    ),
    "ACES2065-1 (AP0)": (
        (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.0770, 0.32168, 0.33767),
        [
            [2.52169, -1.13413, -0.38756],
            [-0.27648, 1.37272, -0.09624],
            [-0.01538, -0.15298, 1.16835],
        ],
    ),
    "Rec. 2020": (  # ITU-R BT.2087
        (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
        [
            [1.6605, -0.5876, -0.0728],
            [-0.1246, 1.1329, -0.0083],
            [-0.0182, -0.1006, 1.1187],
        ],
    ),
    "Display P3": (  # CSS Color 4
        (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
        [
            [1.2249402, -0.2249402, 0.0],
            [-0.0420570, 1.0420570, 0.0],
            [-0.0196376, -0.0786361, 1.0982736],
        ],
    ),
    "DCI-P3": (
        (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
        [
            [1.15752, -0.15496, -0.00255],
            [-0.04150, 1.04557, -0.00407],
            [-0.01805, -0.07858, 1.09663],
        ],
    ),
    "Adobe RGB (1998)": (
        (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290),
        [[1.39836, -0.39836, 0.0], [0.0, 1.0, 0.0], [0.0, -0.04293, 1.04293]],
    ),
    "a colour space of its own (red 0.684 0.313,": (  # ARRI's white paper on ALEXA Wide Gamut RGB
        (0.6840, 0.3130, 0.2210, 0.8480, 0.0861, -0.1020, 0.3127, 0.3290),
        [
            [1.617523, -0.537287, -0.080237],
            [-0.070573, 1.334613, -0.264040],
            [-0.021102, -0.226954, 1.248056],
        ],
    ),
}

STEPS = np.linspace(0, 1, 9)
COLOURS = np.stack(np.meshgrid(STEPS, STEPS, STEPS), -1).reshape(27, 27, 3).astype("f4")
"""729 colours of a space, many of them out of Rec. 709's gamut."""


def planes_of(light: np.ndarray, layer: str = "") -> dict[str, Any]:
    return {f"{layer}{name}": light[..., at] for at, name in enumerate("RGB")}


def remarks_of(path: Path) -> list[str]:
    remarks: list[str] = []
    load_image(path, remarks)
    return remarks


@pytest.mark.parametrize("name", PUBLISHED)
def test_light_of_published_spaces_is_converted(tmp_path: Path, name: str) -> None:
    chromaticities, matrix = PUBLISHED[name]
    header = {"chromaticities": chromaticities}
    path = write_exr(tmp_path / "a.exr", planes_of(COLOURS), header, "f4")
    want = shown(COLOURS @ np.array(matrix).T)
    got = np.asarray(load_image(path)).astype(float)
    assert np.abs(got - want).max() < 1.1  # the curve is steep near black, the matrix has 4 digits
    assert (got[want == 0] == 0).all()
    first, second = remarks_of(path)
    assert "EXR" in first
    assert f"light is in {name}" in second


@pytest.mark.parametrize("name", PUBLISHED)
def test_white_and_grey_stay(tmp_path: Path, name: str) -> None:
    light = np.linspace(0, 1.5, 400, dtype="f4").reshape(20, 20, 1).repeat(3, -1)
    plain = write_exr(tmp_path / "a.exr", planes_of(light), kind="f4")
    header = {"chromaticities": PUBLISHED[name][0]}
    path = write_exr(tmp_path / "b.exr", planes_of(light), header, "f4")
    apart = np.asarray(load_image(path)).astype(int) - np.asarray(load_image(plain))
    assert np.abs(apart).max() <= 1


@pytest.mark.parametrize(
    "given",
    [
        REC_709,
        tuple(float(np.float16(value)) for value in REC_709),
        (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.31271, 0.32902),
        (0.6401, 0.3299, 0.2999, 0.6002, 0.1499, 0.0601, 0.313, 0.329),
    ],
)
def test_rec709_changes_no_bit(tmp_path: Path, given: tuple[float, ...]) -> None:
    light = np.random.default_rng(4).random((20, 20, 3)).astype("f4") * 1.4 - 0.2
    plain = write_exr(tmp_path / "a.exr", planes_of(light), kind="f4")
    path = write_exr(tmp_path / "b.exr", planes_of(light), {"chromaticities": given}, "f4")
    assert load_image(path).tobytes() == load_image(plain).tobytes()
    assert len(remarks_of(path)) == 1


NONSENSE = {
    "NaN": (np.nan, *REC_709[1:]),
    "all NaN": (np.nan,) * 8,
    "infinite": (*REC_709[:6], np.inf, 0.3290),
    "zeros": (0.0,) * 8,
    "one point": (0.3127, 0.3290) * 4,
    "a line": (0.1, 0.1, 0.3, 0.3, 0.5, 0.5, 0.3127, 0.3290),
    "nearly a line": (0.1, 0.1, 0.3, 0.3, 0.5, 0.50001, 0.3, 0.3000033),
    "white out of the triangle": (*REC_709[:6], 0.7, 0.1),
    "white of no luminance": (*REC_709[:6], 0.3127, 0.0),
    "huge": (*REC_709[:4], 1e30, 1e30, 0.3127, 0.3290),
}


@pytest.mark.parametrize("given", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_ignored_with_a_remark(tmp_path: Path, given: tuple[float, ...]) -> None:
    light = np.random.default_rng(4).random((20, 20, 3)).astype("f4")
    plain = write_exr(tmp_path / "a.exr", planes_of(light), kind="f4")
    path = write_exr(tmp_path / "b.exr", planes_of(light), {"chromaticities": given}, "f4")
    with path.open("rb") as file:  # without the quiet of load_image
        exr.decode(file, exr.find_layer(file))
    assert load_image(path).tobytes() == load_image(plain).tobytes()
    second = remarks_of(path)[1]
    assert "describes no colour space" in second
    assert "ignored" in second


def test_conversion_comes_before_alpha_is_divided_out(tmp_path: Path) -> None:
    matrix = np.array(PUBLISHED["ACEScg (AP1)"][1])
    light = np.full((20, 20, 3), (0.4, 0.3, 0.2), "f4")
    planes = {**planes_of(light * 0.5), "A": 0.5}
    path = write_exr(tmp_path / "a.exr", planes, {"chromaticities": ACESCG}, "f4")
    red, green, blue, alpha = load_image(path).getpixel((3, 3))  # pyright: ignore
    assert alpha == 128
    assert np.abs(np.array((red, green, blue)) - shown(matrix @ (0.4, 0.3, 0.2))).max() < 1


@pytest.mark.parametrize(
    ("light", "pixel"),
    [
        ((np.inf, np.inf, np.inf), (255, 255, 255)),
        ((np.nan, np.nan, np.nan), (0, 0, 0)),
        ((-np.inf, -np.inf, -np.inf), (0, 0, 0)),
        ((np.inf, 0.5, np.nan), (255, 0, 0)),
        ((3e38, 3e38, 3e38), (255, 255, 255)),
    ],
)
def test_what_is_no_light_is_made_safe(tmp_path: Path, light: Any, pixel: Any) -> None:
    planes = dict(zip("RGB", light, strict=True))
    path = write_exr(tmp_path / "a.exr", planes, {"chromaticities": ACESCG}, "f4")
    with path.open("rb") as file:  # without the quiet of load_image: NumPy warns of such light
        assert exr.decode(file, exr.find_layer(file))[0].getpixel((3, 3)) == pixel


def test_the_part_of_the_picture_counts(tmp_path: Path) -> None:
    light = np.full((20, 20, 3), (0.4, 0.3, 0.2), "f2")
    path = write_parts(
        tmp_path / "a.exr",
        ({"name": "depth", "chromaticities": ACESCG}, {"Z": 3.0}),
        ({"name": "beauty", "chromaticities": ACESCG}, planes_of(light)),
    )
    want = shown(np.array(PUBLISHED["ACEScg (AP1)"][1]) @ (0.4, 0.3, 0.2))
    assert np.abs(np.array(load_image(path).getpixel((3, 3))) - want).max() < 1


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("lin_ap1_scene", "ACEScg (AP1)"),
        ("lin_ap0_scene", "ACES2065-1 (AP0)"),
        ("lin_rec2020_scene", "Rec. 2020"),
        ("lin_p3d65_scene", "Display P3"),
    ],
)
def test_a_named_space_counts_where_there_are_no_chromaticities(
    tmp_path: Path, given: str, name: str
) -> None:
    path = write_exr(tmp_path / "a.exr", planes_of(COLOURS), {"colorInteropID": given}, "f4")
    want = shown(COLOURS @ np.array(PUBLISHED[name][1]).T)
    assert np.abs(np.asarray(load_image(path)).astype(float) - want).max() < 1.1
    assert f"light is in {name}" in remarks_of(path)[1]
    both = {"colorInteropID": given, "chromaticities": REC_709}
    assert len(remarks_of(write_exr(tmp_path / "b.exr", planes_of(COLOURS), both, "f4"))) == 1


@pytest.mark.parametrize("given", ["lin_rec709_scene", ""])
def test_a_name_that_says_nothing_changes_nothing(tmp_path: Path, given: str) -> None:
    plain = write_exr(tmp_path / "a.exr", planes_of(COLOURS), kind="f4")
    path = write_exr(tmp_path / "b.exr", planes_of(COLOURS), {"colorInteropID": given}, "f4")
    assert load_image(path).tobytes() == load_image(plain).tobytes()
    assert len(remarks_of(path)) == 1


# Luminance and chroma


def luminance_chroma(
    light: np.ndarray, weights: tuple[float, float, float]
) -> dict[str, np.ndarray]:
    """Y, RY and BY as OpenEXR defines them; chroma taken at each second row and column."""
    luminance = light @ np.array(weights)
    chroma = (light - luminance[..., None]) / luminance[..., None]
    return {
        "Y": luminance.astype("f2"),
        "RY": chroma[::2, ::2, 0].astype("f2"),
        "BY": chroma[::2, ::2, 2].astype("f2"),
    }


def slopes(height: int, width: int) -> np.ndarray:
    """Chroma that rises evenly along both axes, so that interpolation gives it back."""
    down, right = np.mgrid[:height, :width]
    red, blue = 0.5 + 0.4 * right / width, 0.3 + 0.5 * down / height
    return np.stack([red, (1 - 0.2126 * red - 0.0722 * blue) / 0.7152, blue], -1) * 0.6


@pytest.mark.parametrize("prefix", ["", "beauty."])
@pytest.mark.parametrize("origin", [(0, 0), (4, -6)])
def test_luminance_and_chroma(tmp_path: Path, prefix: str, origin: tuple[int, int]) -> None:
    light = slopes(40, 60)
    planes = luminance_chroma(light, (0.2126, 0.7152, 0.0722))
    path = write_luminance_chroma(tmp_path / "a.exr", planes, prefix=prefix, origin=origin)
    got = np.asarray(load_image(path)).astype(float)
    # The last row and column have no sample behind them.
    assert np.abs(got - shown(light))[:-1, :-1].max() <= 1
    assert np.abs(got - shown(light)).max() <= 4
    assert len(remarks_of(path)) == 1


@pytest.mark.slow
def test_luminance_and_chroma_of_more_than_one_strip(tmp_path: Path) -> None:
    light = slopes(1200, 1000)
    planes = luminance_chroma(light, (0.2126, 0.7152, 0.0722))
    got = np.asarray(load_image(write_luminance_chroma(tmp_path / "a.exr", planes)))
    assert np.abs(got - shown(light))[:-1, :-1].max() <= 1


def test_luminance_and_chroma_with_alpha(tmp_path: Path) -> None:
    light = slopes(20, 20)
    planes = luminance_chroma(light * 0.5, (0.2126, 0.7152, 0.0722))
    alpha = np.full((20, 20), 0.5)
    image = load_image(write_luminance_chroma(tmp_path / "a.exr", {**planes, "A": alpha}))
    assert (np.asarray(image)[..., 3] == 128).all()
    assert np.abs(np.asarray(image)[..., :3] - shown(light))[:-1, :-1].max() <= 1


def test_luminance_and_chroma_of_another_space(tmp_path: Path) -> None:
    """Its luminance weighs the primaries of the file: the second row of AP1's matrix to XYZ."""
    light = np.full((20, 20, 3), (0.4, 0.3, 0.2))
    planes = luminance_chroma(light, (0.2722287, 0.6740818, 0.0536895))
    path = write_luminance_chroma(tmp_path / "a.exr", planes, chromaticities=ACESCG)
    want = shown(np.array(PUBLISHED["ACEScg (AP1)"][1]) @ (0.4, 0.3, 0.2))
    assert np.abs(np.asarray(load_image(path)) - want).max() <= 1
    assert "ACEScg" in remarks_of(path)[1]


def test_grey_is_the_same_in_each_space(tmp_path: Path) -> None:
    path = write_exr(tmp_path / "a.exr", {"Y": 0.5}, {"chromaticities": ACESCG})
    assert load_image(path).getcolors() == [(400, (188, 188, 188))]
    assert len(remarks_of(path)) == 1


def test_infinite_luminance_is_made_safe(tmp_path: Path) -> None:
    planes = luminance_chroma(slopes(20, 20), (0.2126, 0.7152, 0.0722))
    planes["Y"][3, 3], planes["Y"][4, 4] = np.inf, np.nan
    path = write_luminance_chroma(tmp_path / "a.exr", planes)
    with path.open("rb") as file:  # without the quiet of load_image
        image, _ = exr.decode(file, exr.find_layer(file))
    assert image.getpixel((4, 4)) == (0, 0, 0)
    assert np.asarray(image)[3, 3].max() == 255


@pytest.mark.slow
@settings(max_examples=200)
@given(st.lists(st.floats(-3, 3) | st.floats(width=32), min_size=8, max_size=8))
def test_no_chromaticities_escape_as_an_error(
    tmp_path_factory: pytest.TempPathFactory, given_values: list[float]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.exr"
    header = {"chromaticities": tuple(given_values)}
    planes = dict(zip("RGB", (0.2, 0.5, 1.5), strict=True))
    with write_exr(path, planes, header).open("rb") as file:
        image, remarks = exr.decode(file, exr.find_layer(file))
    assert image.getcolors() is not None
    assert 1 <= len(remarks) <= 2
