"""HEIC photos, as phones and cameras write them (tests/golden/heic says how they were made)."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dna_pipeline.base.errors import ImageTooLarge, ImageTooSmall, ImageUnreadable
from dna_pipeline.media import images
from dna_pipeline.media.images import ImageFacts, load_image, probe

HEIC = Path(__file__).parents[3] / "golden" / "heic"
RED, GREEN, BLUE = (220, 40, 40), (40, 200, 60), (30, 60, 200)


def patches(red=RED, green=GREEN, blue=BLUE) -> np.ndarray:
    picture = np.empty((64, 96, 3), int)
    picture[...] = blue
    picture[:32, :48] = red
    picture[32:, 48:] = green
    return picture


def assert_close(image: Image.Image, want: np.ndarray, most: int = 4) -> None:
    assert image.size == (want.shape[1], want.shape[0])
    assert np.abs(np.asarray(image, int) - want).max() <= most


@pytest.mark.parametrize("name", ["plain", "ten", "second"])
def test_the_primary_picture_is_read(name: str) -> None:
    image = load_image(HEIC / f"{name}.heic")
    assert (image.mode, image.info) == ("RGB", {})
    assert_close(image, patches())


def test_the_facts() -> None:
    assert probe(HEIC / "plain.heic") == ImageFacts("HEIF", 96, 64)
    assert probe(HEIC / "second.heic") == ImageFacts("HEIF", 96, 64)
    assert probe(HEIC / "turned-6.heic") == ImageFacts("HEIF", 64, 96)


@pytest.mark.parametrize(("number", "turns"), [(3, 2), (6, 3), (8, 1)])
def test_it_is_turned_upright_once(number: int, turns: int) -> None:
    """The file says twice how it is turned: in its properties and in its EXIF."""
    assert_close(load_image(HEIC / f"turned-{number}.heic"), np.rot90(patches(), turns))


def test_alpha_is_kept() -> None:
    image = load_image(HEIC / "alpha.heic")
    assert image.mode == "RGBA"
    assert_close(image.convert("RGB"), patches())
    ramp = np.asarray(image.getchannel("A"), int)[:, 40]
    assert np.abs(ramp - np.linspace(0, 255, 64)).max() < 8


def test_an_icc_profile_is_applied() -> None:
    red, green, blue = ((g, r, b) for r, g, b in (RED, GREEN, BLUE))
    assert_close(load_image(HEIC / "icc.heic"), patches(red, green, blue), 5)


def srgb(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_colours_of_display_p3_become_srgb() -> None:
    # From Display P3 to sRGB, both linear with the white of D65 (CSS Color 4).
    to_srgb = np.array(
        [
            [1.2249402, -0.2249402, 0],
            [-0.0420570, 1.0420570, 0],
            [-0.0196376, -0.0786361, 1.0982736],
        ]
    )

    def converted(colour: tuple[int, int, int]) -> np.ndarray:
        signal = np.array(colour) / 255
        linear = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
        return np.rint(srgb(to_srgb @ linear)).astype(int)

    want = patches(*(converted(colour) for colour in (RED, GREEN, BLUE)))
    assert np.abs(want - patches()).max() > 15, "else the profile would not matter"
    assert_close(load_image(HEIC / "p3.heic"), want, 8)


@pytest.mark.parametrize(
    ("name", "light"),
    [("pq", [100 / 203, 1, 1]), ("hlg", [1000 * (1 / 12) ** 1.2 / 203, 1, 1])],
)
def test_hdr_is_clipped_at_paper_white(name: str, light: list[float]) -> None:
    remarks: list[str] = []
    image = load_image(HEIC / f"{name}.heic", remarks)
    seen = [image.getpixel((x, 16)) for x in (16, 48, 80)]
    want = np.repeat(srgb(np.array(light))[:, None], 3, 1)
    assert np.abs(np.array(seen) - want).max() <= 4
    assert len(remarks) == 1
    assert f"HDR picture ({name.upper()})" in remarks[0]


def test_sdr_pictures_get_no_remark() -> None:
    remarks: list[str] = []
    load_image(HEIC / "p3.heic", remarks)
    assert remarks == []


def renumbered(name: str, primaries: int, transfer: int) -> bytes:
    """A photo with other numbers of its primaries and its curve."""
    data = bytearray((HEIC / f"{name}.heic").read_bytes())
    at = data.index(b"nclx") + 4
    data[at : at + 4] = primaries.to_bytes(2, "big") + transfer.to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize("primaries", [1, 2, 10])
@pytest.mark.parametrize("transfer", [1, 2, 6, 7, 11, 12, 13, 14, 15])
def test_colours_of_video_and_undeclared_ones_are_shown_as_srgb(
    tmp_path: Path, primaries: int, transfer: int
) -> None:
    path = tmp_path / "photo.heic"
    remarks: list[str] = []
    path.write_bytes(renumbered("p3", primaries, transfer))
    assert_close(load_image(path, remarks), patches())
    assert remarks == []


def test_linear_light_is_converted(tmp_path: Path) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(renumbered("p3", 1, 8))
    want = patches(*(np.rint(srgb(np.array(colour) / 255)) for colour in (RED, GREEN, BLUE)))
    assert_close(load_image(path), want, 8)


def test_a_second_picture_is_left_out_with_a_remark() -> None:
    remarks: list[str] = []
    load_image(HEIC / "second.heic", remarks)
    assert remarks == ["The HEIF has 2 pictures; only the primary one was taken."]


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "data"])
def test_the_name_does_not_matter(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{ending}"
    path.write_bytes((HEIC / "plain.heic").read_bytes())
    assert_close(load_image(path), patches())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_another_picture_called_heic_is_read(kind: str, tmp_path: Path) -> None:
    picture = Image.fromarray(patches().astype(np.uint8))
    picture.save(tmp_path / "IMG_0001.HEIC", kind, quality=95)
    assert probe(tmp_path / "IMG_0001.HEIC").format == kind
    if kind == "PNG":
        assert_close(load_image(tmp_path / "IMG_0001.HEIC"), patches(), 0)


@pytest.mark.skipif("AVIF" not in images.FORMATS, reason="this Pillow has no AVIF")
def test_avif_of_the_general_brand_stays_pillow_s(tmp_path: Path) -> None:
    path = tmp_path / "a.heif"
    Image.fromarray(patches().astype(np.uint8)).save(path, "AVIF", quality=95)
    data = path.read_bytes()
    assert data[8:12] == b"avif"
    assert b"mif1" in data[:40]
    path.write_bytes(data[:8] + b"mif1" + data[12:])
    assert probe(path).format == "AVIF"


@pytest.mark.parametrize("name", ["plain", "alpha", "turned-6", "second", "ten"])
def test_a_part_of_a_file_is_never_read(name: str, tmp_path: Path) -> None:
    data = (HEIC / f"{name}.heic").read_bytes()
    path = tmp_path / "photo.heic"
    for size in (*range(16, len(data), 23), len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(ImageUnreadable, match="truncated"):
            load_image(path)


def test_the_pixels_are_counted_before_they_are_decoded(tmp_path: Path) -> None:
    data = (HEIC / "plain.heic").read_bytes()
    path = tmp_path / "photo.heic"
    at = data.index(b"ispe") + 8
    for size, error in (((30_000, 30_000), ImageTooLarge), ((96, 9), ImageTooSmall)):
        sides = b"".join(side.to_bytes(4, "big") for side in size)
        path.write_bytes(data[:at] + sides + data[at + 8 :])
        with pytest.raises(error, match=f"{size[0]} x {size[1]} px"):
            probe(path)


def test_what_cannot_be_decoded_is_said(tmp_path: Path) -> None:
    data = (HEIC / "plain.heic").read_bytes()
    path = tmp_path / "photo.heic"
    path.write_bytes(data.replace(b"hvc1", b"av01").replace(b"hvcC", b"av1C"))
    with pytest.raises(ImageUnreadable, match=r"export it as PNG or JPEG|copy or export it again"):
        load_image(path)
