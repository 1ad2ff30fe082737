"""OpenEXR pictures whose `colorInteropID` names a curve, or nothing that is understood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dna_pipeline.base.errors import ImageUnreadable
from dna_pipeline.media.images import load_image
from tests.exr_files import shown, write_exr

RED, GREEN = np.meshgrid(np.linspace(0, 1, 17), np.linspace(0.05, 0.8, 16))
LIGHT = np.stack([RED, GREEN, RED / 2], -1)
TO_REC_709 = {  # CSS Color 4; ACES by Bradford
    "rec709": np.eye(3),
    "p3d65": np.array(
        [[1.2249402, -0.2249402, 0], [-0.042057, 1.042057, 0], [-0.0196376, -0.0786361, 1.0982736]]
    ),
    "ap1": np.array(
        [[1.70505, -0.62179, -0.08326], [-0.13026, 1.1408, -0.01055], [-0.024, -0.12897, 1.15297]]
    ),
}
REC_2020 = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290)


def encoded(light: np.ndarray, curve: str) -> np.ndarray:
    if curve == "srgb":
        return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return light ** (10 / int(curve[1:]))


def planes(values: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[..., at].astype("f4") for at, name in enumerate("RGBA"[: values.shape[2]])}


def read(path: Path) -> tuple[np.ndarray, str]:
    remarks: list[str] = []
    image = load_image(path, remarks)
    return np.asarray(image).astype(float), " ".join(remarks[1:])


@pytest.mark.parametrize("primaries", TO_REC_709)
@pytest.mark.parametrize("curve", ["srgb", "g18", "g22", "g24"])
def test_a_named_curve_is_undone(curve: str, primaries: str, tmp_path: Path) -> None:
    name = f"{curve}_{primaries}_scene"
    path = write_exr(
        tmp_path / "a.exr", planes(encoded(LIGHT, curve)), {"colorInteropID": name}, "f4"
    )
    pixels, remarks = read(path)
    want = shown((LIGHT @ TO_REC_709[primaries].T).clip(0))
    assert np.abs(pixels - want).max() < 1.5
    assert f'not linear ("{name}")' in remarks
    assert ("primaries" in remarks) == (primaries != "rec709")


def test_a_curve_holds_for_straight_colours(tmp_path: Path) -> None:
    alpha = np.full((*LIGHT.shape[:2], 1), 0.25)
    stored = np.concatenate([encoded(LIGHT, "srgb") * alpha, alpha], -1)
    attributes = {"colorInteropID": "srgb_rec709_scene"}
    pixels, _ = read(write_exr(tmp_path / "a.exr", planes(stored), attributes, "f4"))
    assert np.abs(pixels[..., :3] - shown(LIGHT)).max() < 1.5
    assert np.abs(pixels[..., 3] - 64).max() <= 1


def test_a_curve_of_grey(tmp_path: Path) -> None:
    grey = LIGHT[..., 0]
    stored = {"Y": encoded(grey, "g22").astype("f4")}
    attributes = {"colorInteropID": "g22_rec709_scene"}
    pixels, remarks = read(write_exr(tmp_path / "a.exr", stored, attributes, "f4"))
    assert np.abs(pixels - shown(grey)[..., None]).max() < 1.5
    assert "not linear" in remarks


def test_values_below_zero_and_that_are_no_numbers(tmp_path: Path) -> None:
    stored = encoded(LIGHT, "srgb")
    stored[0, 0], stored[0, 1], stored[0, 2] = -0.5, np.nan, np.inf
    attributes = {"colorInteropID": "srgb_rec709_scene"}
    pixels, _ = read(write_exr(tmp_path / "a.exr", planes(stored), attributes, "f4"))
    assert pixels[0, :3].tolist() == [[0] * 3, [0] * 3, [255] * 3]


def test_chromaticities_count_before_the_primaries_of_the_name(tmp_path: Path) -> None:
    attributes = {"colorInteropID": "srgb_rec709_scene", "chromaticities": REC_2020}
    stored = planes(encoded(LIGHT, "srgb"))
    _, remarks = read(write_exr(tmp_path / "a.exr", stored, attributes, "f4"))
    assert "Rec. 2020" in remarks
    assert "not linear" in remarks


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("data", 'says "data"'),
        ("unknown", "is unknown"),
        ("pq_rec2020_display", '"pq_rec2020_display" is not understood'),
        ("srgb_mine_scene", '"srgb_mine_scene" is not understood'),
        ("studio:look\x07", '"studio:look?" is not understood'),
    ],
)
def test_a_name_that_is_not_understood_is_reported(name: str, said: str, tmp_path: Path) -> None:
    path = write_exr(tmp_path / "a.exr", planes(LIGHT), {"colorInteropID": name}, "f4")
    pixels, remarks = read(path)
    assert np.abs(pixels - shown(LIGHT)).max() < 1.1
    assert said in remarks
    assert "taken for linear light with the primaries of sRGB (Rec. 709)" in remarks


def test_layers_without_a_name_are_listed_as_such(tmp_path: Path) -> None:
    path = write_exr(tmp_path / "a.exr", {"Z": LIGHT[..., 0].astype("f4")}, kind="f4")
    with pytest.raises(ImageUnreadable, match=r"has: a layer without a name \(channels Z\)"):
        load_image(path)
