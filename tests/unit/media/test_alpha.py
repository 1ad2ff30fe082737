"""Alpha channels that say nothing, and what counts as cut out; on real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dna_pipeline.media.alpha import Transparency
from dna_pipeline.media.images import load_image

SIZE = (48, 40)


def colours() -> np.ndarray:
    """A ramp of red across and green down, (h, w, 3)."""
    width, height = SIZE
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 5 + 10, y * 6, np.full_like(x, 90)], -1).astype(np.uint8)


def written(path: Path, alpha: np.ndarray | int, rgb: np.ndarray | None = None) -> Path:
    picture = np.full((*SIZE[::-1], 4), 255, np.uint8)
    picture[..., :3] = colours() if rgb is None else rgb
    picture[..., 3] = alpha
    options = {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
    Image.fromarray(picture).save(path, **options)
    return path


def stray(value: int, others: int = 255) -> np.ndarray:
    alpha = np.full(SIZE[::-1], others, np.uint8)
    alpha[3, 7] = value
    return alpha


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("alpha", [0, 1, 128, 249, stray(3, others=0), stray(131, others=128)])
def test_an_alpha_that_hardly_varies_is_dropped_with_a_remark(
    tmp_path: Path, name: str, alpha: np.ndarray | int
) -> None:
    remarks: list[str] = []
    image = load_image(written(tmp_path / name, alpha), remarks)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), colours())
    (remark,) = remarks
    low, high = np.min(alpha), np.max(alpha)
    assert f"Alpha is {low if low == high else f'{low} to {high}'} (of 255)" in remark
    assert "read as opaque" in remark


@pytest.mark.parametrize("alpha", [250, 254, 255, stray(254), stray(250)])
def test_what_is_as_good_as_opaque_is_so_in_silence(
    tmp_path: Path, alpha: np.ndarray | int
) -> None:
    remarks: list[str] = []
    image = load_image(written(tmp_path / "a.png", alpha), remarks)
    assert (image.mode, remarks) == ("RGB", [])
    assert np.array_equal(np.asarray(image), colours())


@pytest.mark.parametrize("alpha", [stray(249), stray(0), stray(255, others=0), stray(140, 128)])
def test_an_alpha_that_varies_is_kept(tmp_path: Path, alpha: np.ndarray) -> None:
    remarks: list[str] = []
    image = load_image(written(tmp_path / "a.png", alpha), remarks)
    assert (image.mode, remarks) == ("RGBA", [])
    assert np.array_equal(np.asarray(image)[..., 3], alpha)


def test_nothing_on_nothing_stays_transparent(tmp_path: Path) -> None:
    remarks: list[str] = []
    image = load_image(written(tmp_path / "a.png", 0, np.zeros((*SIZE[::-1], 3))), remarks)
    assert (image.mode, remarks) == ("RGBA", [])
    assert not np.asarray(image).any()


def test_half_transparent_black_is_a_black_picture(tmp_path: Path) -> None:
    image = load_image(written(tmp_path / "a.png", 128, np.zeros((*SIZE[::-1], 3))))
    assert image.mode == "RGB"
    assert not np.asarray(image).any()


def with_alpha(shape: str, size: int = 100) -> Image.Image:
    """Opaque with a part that is transparent, or transparent with a part that is opaque."""
    alpha = Image.new("L", (size, size), 255)
    pen = ImageDraw.Draw(alpha)
    if shape == "corners":
        alpha.paste(0, (0, 0, size, size))
        pen.rounded_rectangle([0, 0, size - 1, size - 1], 12, fill=255)
    elif shape == "hole":
        pen.rectangle([30, 30, 69, 69], fill=0)
    elif shape == "slit":  # 1 % of the picture
        pen.rectangle([0, 0, 99, 0], fill=0)
    elif shape == "strip":  # 3 % of the picture, a quarter of its border and a little more
        pen.rectangle([0, 0, 99, 2], fill=0)
    elif shape == "three borders":
        alpha.paste(0, (0, 0, size, size))
        pen.rectangle([20, 0, 99, 99], fill=255)
    elif shape == "haze":
        alpha.paste(15, (0, 0, size, size))
        pen.ellipse([20, 20, 80, 80], fill=255)
    elif shape == "thicker haze":
        alpha.paste(16, (0, 0, size, size))
        pen.ellipse([20, 20, 80, 80], fill=255)
    elif shape == "vignette":
        y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
        alpha = Image.fromarray((255 * (1 - (x * x + y * y) / 2)).astype(np.uint8))
    image = Image.new("RGBA", (size, size), (200, 80, 60))
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize(
    ("shape", "is_cut_out"),
    [
        ("nothing", False),
        ("corners", False),
        ("hole", False),
        ("slit", False),
        ("vignette", False),
        ("thicker haze", False),
        ("strip", True),
        ("three borders", True),
        ("haze", True),
    ],
)
def test_what_counts_as_cut_out(shape: str, is_cut_out: bool) -> None:
    assert Transparency.of(with_alpha(shape)).is_cut_out is is_cut_out


def test_the_shares_are_of_all_pixels_and_of_the_outermost() -> None:
    strip = Transparency.of(with_alpha("strip"))
    assert strip.share == pytest.approx(0.03)
    assert strip.border_share == pytest.approx((100 + 2 + 2) / 396)
    assert Transparency.of(Image.new("RGB", (20, 20))) == Transparency(0.0, 0.0)
