"""Pictures whose end is missing although their decoders take them for whole."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from dna_pipeline.base.errors import ImageTooLarge, ImageUnreadable
from dna_pipeline.media.images import load_image, probe

PHOTO = Image.fromarray(skimage.data.astronaut()).resize((320, 240))
ZEROS = "the file's end is missing \\(zeros are in its place\\): copy it again"


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def zeroed(data: bytes, share: float) -> bytes:
    kept = int(len(data) * share)
    return data[:kept] + bytes(len(data) - kept)


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        (path := tmp_path / "picture").write_bytes(data)
        return path

    return write


Put = Callable[[bytes], Path]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 90}),
        ("JPEG", {"quality": 90, "optimize": True}),
        ("JPEG", {"quality": 90, "progressive": True}),
        ("JPEG", {"quality": 90, "restart_marker_rows": 2}),
        ("WEBP", {"quality": 90}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 90, "speed": 9}),
    ],
)
def test_zeros_in_place_of_the_end(
    kind: str, options: dict[str, Any], share: float, put: Put
) -> None:
    data = encoded(PHOTO, kind, **options)
    assert load_image(put(data)).size == PHOTO.size
    with pytest.raises(ImageUnreadable):
        probe(put(zeroed(data, share)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_zeros_are_named(kind: str, put: Put) -> None:
    """All of these decode without an error, to a picture that is partly grey."""
    data = zeroed(encoded(PHOTO.resize((640, 480)), kind, quality=98), 0.5)
    Image.open(io.BytesIO(data)).load()
    with pytest.raises(ImageUnreadable, match=ZEROS):
        load_image(put(data))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"subsampling": 0}])
def test_jpeg_cut_off_and_closed(share: float, options: dict[str, Any], put: Put) -> None:
    data = encoded(PHOTO, "JPEG", quality=90, **options)
    cut = data[: int(len(data) * share)].rstrip(b"\xff") + b"\xff\xd9"
    with pytest.raises(ImageUnreadable, match="its pixels end before the picture does"):
        load_image(put(cut))


@pytest.mark.parametrize("begin", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("options", [{}, {"optimize": True}])
def test_jpeg_with_a_hole_of_zeros(begin: float, options: dict[str, Any], put: Put) -> None:
    photo = PHOTO.resize((640, 480))
    data = encoded(photo, "JPEG", quality=90, **options)
    at = int(len(data) * begin)
    with pytest.raises(ImageUnreadable, match="overwritten with zeros"):
        load_image(put(data[:at] + bytes(4096) + data[at + 4096 :]))


@pytest.mark.parametrize(
    "behind", [bytes(1), bytes(5000), b"garbage\xff\xd8\xff\xda\0\2" * 99], ids=len
)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_what_follows_the_end_mark_of_a_jpeg_does_not_matter(
    options: dict[str, Any], behind: bytes, put: Put
) -> None:
    data = encoded(PHOTO, "JPEG", **options)
    assert load_image(put(data + behind)).tobytes() == load_image(put(data)).tobytes()


def flat_bottom() -> Image.Image:
    canvas = Image.new("RGB", (1500, 1500), "white")
    canvas.paste(PHOTO, (500, 100))
    return canvas


FLAT = {
    "white": Image.new("RGB", (1500, 1500), "white"),
    "black": Image.new("RGB", (1111, 1501)),
    "a subject on white": flat_bottom(),
    "grey": flat_bottom().convert("L"),
    "CMYK": flat_bottom().convert("CMYK"),
    "tiny": Image.new("RGB", (16, 16), "red"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FLAT)
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}])
def test_flat_jpegs_are_whole(name: str, options: dict[str, Any], put: Put) -> None:
    """Flat colour is packed as zeros, and looks like what a decoder fills in."""
    data = encoded(FLAT[name], "JPEG", quality=75, **options)
    assert load_image(put(data)).size == FLAT[name].size


@pytest.mark.slow
@pytest.mark.parametrize("name", ["white", "black", "a subject on white", "tiny"])
@pytest.mark.parametrize("options", [{"quality": 5}, {"lossless": True}])
def test_flat_webps_are_whole(name: str, options: dict[str, Any], put: Put) -> None:
    data = encoded(FLAT[name], "WEBP", **options)
    assert load_image(put(data)).size == FLAT[name].size


def text_above_white(side: int) -> Image.Image:
    """Specks that seldom touch, as of printed text, above a white half."""
    pixels = np.full((side, side, 3), 255, np.uint8)
    draw = np.random.default_rng(0)
    for top, left in draw.integers(0, side // 8, (side * 2, 2)) * 4:
        pixels[top : top + 2, 2 * left : 2 * left + 2] = 0
    return Image.fromarray(pixels)


def test_a_large_flat_webp_ends_in_zeros_and_is_whole(put: Put) -> None:
    """Its coder writes a flat block as a fraction of a zero bit."""
    picture = Image.new("RGB", (2048, 2048), "white")
    data = encoded(picture, "WEBP", quality=80)
    assert data.endswith(bytes(256))
    assert load_image(put(data)).size == picture.size
    with pytest.raises(ImageUnreadable):
        load_image(put(zeroed(data, 0.5)))


@pytest.mark.slow
def test_zeros_of_flat_blocks_differ_from_zeros_in_place_of_others(put: Put) -> None:
    data = encoded(text_above_white(2048), "WEBP", quality=5)
    assert data.endswith(bytes(256))
    assert load_image(put(data)).size == (2048, 2048)
    with pytest.raises(ImageUnreadable, match=ZEROS):
        load_image(put(zeroed(data, 0.9)))


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "little") + content + bytes(len(content) % 2)


def with_plain_alpha(image: Image.Image) -> bytes:
    """A WebP with alpha that is not compressed, and 0 in its lower half."""
    width, height = image.size
    alpha = bytes([255]) * (width * (height // 2)) + bytes(width * (height - height // 2))
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = chunk(b"VP8X", b"\x10\0\0\0" + sides) + chunk(b"ALPH", b"\0" + alpha)
    return chunk(b"RIFF", b"WEBP" + body + encoded(image, "WEBP", quality=90)[12:])


def test_plain_alpha_of_a_webp_may_end_in_zeros(put: Put) -> None:
    data = with_plain_alpha(PHOTO)
    picture = load_image(put(data))
    assert picture.mode == "RGBA" and picture.getpixel((0, 239))[3] == 0  # type: ignore[index]
    with pytest.raises(ImageUnreadable, match=ZEROS):
        load_image(put(zeroed(data, 0.95)))


def test_zeros_in_a_frame_of_an_animated_webp(put: Put) -> None:
    frames = {"save_all": True, "append_images": [PHOTO.rotate(180)], "quality": 90}
    data = encoded(PHOTO, "WEBP", **frames)
    assert load_image(put(data)).size == PHOTO.size
    with pytest.raises(ImageUnreadable, match=ZEROS):
        load_image(put(zeroed(data, 0.9)))


def test_optimized_flat_jpeg_holds_the_zeros_of_a_hole() -> None:
    """So zeros alone cannot be called damage."""
    assert bytes(1024) in encoded(FLAT["white"], "JPEG", optimize=True)


def test_jpeg_with_its_thumbnail_and_several_views(put: Put) -> None:
    small = encoded(PHOTO.resize((160, 120)), "JPEG")
    exif = Image.Exif()
    exif[0x927C] = small
    with_thumbnail = encoded(PHOTO, "JPEG", exif=exif)
    assert with_thumbnail.count(b"\xff\xd9") == 2
    assert load_image(put(with_thumbnail)).size == PHOTO.size
    views = encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO.rotate(180)])
    assert load_image(put(views)).size == PHOTO.size
    with pytest.raises(ImageUnreadable, match="missing"):
        load_image(put(zeroed(with_thumbnail, 0.7)))


def test_a_webp_that_says_more_than_there_is(put: Put) -> None:
    data = encoded(PHOTO, "WEBP")
    longer = data[:4] + (len(data) + 4000).to_bytes(4, "little") + data[8:]
    with pytest.raises(ImageUnreadable, match="shorter than its header says"):
        load_image(put(longer))


def test_free_space_at_the_end_of_an_avif(put: Put) -> None:
    data = encoded(PHOTO, "AVIF", speed=9)
    free = (4096).to_bytes(4, "big") + b"free" + bytes(4088)
    assert load_image(put(data + free)).size == PHOTO.size


def test_zeros_at_the_end_of_an_heic(put: Put) -> None:
    """The box of the pixels ends in zeros; behind it they are free space."""
    data = (Path(__file__).parents[2] / "golden/heic/plain.heic").read_bytes()
    at = data.index(b"mdat") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    assert at + size == len(data)
    free = (520).to_bytes(4, "big") + b"free" + bytes(512)
    assert load_image(put(data + free)).size == (96, 64)
    with pytest.raises(ImageUnreadable, match=ZEROS):
        load_image(put(data[:at] + (size + 512).to_bytes(4, "big") + data[at + 4 :] + bytes(512)))


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(20_000, 20_000), (40_000, 100), (15_000, 14_000)])
def test_a_picture_that_is_too_large_is_named_by_its_sides(
    sides: tuple[int, int], put: Put
) -> None:
    path = put(encoded(Image.fromarray(np.zeros(sides[::-1], bool)), "PNG"))
    with pytest.raises(ImageTooLarge, match=f"{sides[0]} x {sides[1]} px; at most 32768 px a side"):
        probe(path)
