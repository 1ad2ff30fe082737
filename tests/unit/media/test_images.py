"""Real pictures in every form they come in, and files that only claim to be pictures."""

from __future__ import annotations

import errno
import io
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image, ImageCms

from dna_pipeline.base.errors import ImageTooLarge, ImageTooSmall, ImageUnreadable
from dna_pipeline.media.images import FORMATS, ImageFacts, load_image, probe, save_png

ASTRONAUT = Image.fromarray(skimage.data.astronaut()).resize((160, 120))


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference over all channels, 0 to 255."""
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


def png(
    width: int, height: int, depth: int, kind: int, rows: bytes, *extra: bytes, interlaced: int = 0
) -> bytes:
    """A PNG made by hand; `rows` holds the filter bytes too."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    body = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(body) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    def write(data: bytes, name: str = "picture.png") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


Put = Callable[..., Path]


# What is whole and readable


@pytest.mark.parametrize("kind", FORMATS)
def test_reads_each_format(kind: str, put: Put) -> None:
    path = put(encoded(ASTRONAUT, kind))
    assert probe(path) == ImageFacts(kind, 160, 120)
    image = load_image(path)
    assert (image.mode, image.size, image.info) == ("RGB", (160, 120), {})
    assert difference(image, ASTRONAUT) < (12 if kind == "GIF" else 8)


def test_a_photograph_comes_back_pixel_for_pixel(put: Put) -> None:
    photo = Image.fromarray(skimage.data.coffee())
    assert difference(load_image(put(encoded(photo, "PNG"))), photo) == 0


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_takes_the_first_frame(kind: str, put: Put) -> None:
    others = [ASTRONAUT.rotate(40 * i) for i in range(1, 4)]
    path = put(encoded(ASTRONAUT, kind, save_all=True, append_images=others))
    assert difference(load_image(path), ASTRONAUT) < 12


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_turns_upright(kind: str, orientation: int, put: Put) -> None:
    stored = {
        1: ASTRONAUT,
        2: ASTRONAUT.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: ASTRONAUT.transpose(Image.Transpose.ROTATE_180),
        4: ASTRONAUT.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: ASTRONAUT.transpose(Image.Transpose.TRANSPOSE),
        6: ASTRONAUT.transpose(Image.Transpose.ROTATE_90),
        7: ASTRONAUT.transpose(Image.Transpose.TRANSVERSE),
        8: ASTRONAUT.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = put(encoded(stored, kind, exif=exif))
    facts = probe(path)
    assert (facts.width, facts.height) == (160, 120)
    assert difference(load_image(path), ASTRONAUT) < 8


def test_broken_exif_does_no_harm(put: Put) -> None:
    path = put(encoded(ASTRONAUT, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage"))
    assert difference(load_image(path), ASTRONAUT) < 8
    path = put(encoded(ASTRONAUT, "PNG", exif=b"Exif\0\0nothing of the kind"))
    assert load_image(path).size == (160, 120)


def test_cmyk_jpeg_has_the_right_polarity(put: Put) -> None:
    patches = Image.new("CMYK", (64, 32), (0, 255, 255, 0))
    patches.paste((255, 0, 255, 0), (32, 0, 64, 32))
    image = load_image(put(encoded(patches, "JPEG", quality=95), "print.jpg"))
    assert np.allclose(image.getpixel((8, 16)), (255, 0, 0), atol=8)
    assert np.allclose(image.getpixel((56, 16)), (0, 255, 0), atol=8)


def test_16_bit_grey_is_scaled_not_clipped(put: Put) -> None:
    ramp = np.tile(np.linspace(0, 65535, 256).astype(">u2"), (32, 1))
    rows = b"".join(b"\0" + row.tobytes() for row in ramp)
    image = load_image(put(png(256, 32, 16, 0, rows)))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image)[0, :, 1], np.arange(256))


def test_16_bit_grey_tiff_of_either_byte_order(put: Put) -> None:
    ramp = np.tile(np.arange(0, 65536, 256, dtype=np.uint16), (32, 1))
    little = encoded(Image.fromarray(ramp), "TIFF")
    image = load_image(put(little, "scan.tif"))
    assert np.abs(np.asarray(image)[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_16_bit_grey_with_a_transparent_value(put: Put) -> None:
    values = np.full((20, 20), 0x1234, ">u2")
    values[:, 10:] = 0x1235
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    image = load_image(put(png(20, 20, 16, 0, rows, chunk(b"tRNS", b"\x12\x34"))))
    assert image.mode == "RGBA"
    assert image.getpixel((2, 2)) == (0x12, 0x12, 0x12, 0)
    assert image.getpixel((15, 2)) == (0x12, 0x12, 0x12, 255)


def test_16_bit_colour_with_and_without_alpha(put: Put) -> None:
    rgb = b"".join(b"\0" + struct.pack(">3H", 0xFF00, 0x8000, 0x0100) * 20 for _ in range(20))
    image = load_image(put(png(20, 20, 16, 2, rgb)))
    assert (image.mode, image.getpixel((3, 3))) == ("RGB", (254, 128, 1))
    red, clear = struct.pack(">4H", 0xFFFF, 0, 0, 0x4000), bytes(8)
    rgba = b"".join(b"\0" + red * 19 + clear for _ in range(20))
    image = load_image(put(png(20, 20, 16, 6, rgba)))
    assert (image.mode, image.getpixel((3, 3))) == ("RGBA", (255, 0, 0, 64))


EVERY_BYTE = np.random.default_rng(5).integers(0, 65536, (24, 36, 4)).astype(np.uint16)
NEAREST = np.rint(EVERY_BYTE / 257).astype(int)


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(("kind", "channels"), [(2, [0, 1, 2]), (6, [0, 1, 2, 3]), (4, [0, 3])])
def test_16_bit_png_is_rounded_not_cut(
    kind: int, channels: list[int], interlaced: int, put: Put
) -> None:
    values = EVERY_BYTE[..., channels].astype(">u2")
    passes = adam7(values) if interlaced else [values]
    rows = b"".join(b"\0" + row.tobytes() for part in passes for row in part)
    pixels = np.asarray(load_image(put(png(36, 24, 16, kind, rows, interlaced=interlaced))))
    want = NEAREST[..., [0, 0, 0, 3] if kind == 4 else channels]
    assert np.array_equal(pixels, want)


def adam7(values: Any) -> list[Any]:
    """The seven passes of an interlaced PNG (ISO/IEC 15948, 8.2)."""
    starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    return [values[y::dy, x::dx] for y, x, dy, dx in [*starts, (1, 0, 2, 1)]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_tiff_is_rounded_not_cut(
    tmp_path: Path, channels: int, compression: str | None, order: Any
) -> None:
    path = tmp_path / "render.tif"
    extra = ["unassalpha"] if channels == 4 else None
    values = EVERY_BYTE[..., :channels]
    options: dict[str, Any] = {"compression": compression, "byteorder": order}
    tifffile.imwrite(path, values, photometric="rgb", extrasamples=extra, **options)
    assert np.array_equal(np.asarray(load_image(path)), NEAREST[..., :channels])
    assert probe(path) == ImageFacts("TIFF", 36, 24)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_16_bit_tiff_in_planes(tmp_path: Path, compression: Any) -> None:
    path = tmp_path / "render.tif"
    planes = np.moveaxis(EVERY_BYTE[..., :3], -1, 0)
    options: dict[str, Any] = {"planarconfig": "separate", "compression": compression}
    tifffile.imwrite(path, planes, photometric="rgb", **options)
    assert np.array_equal(np.asarray(load_image(path)), NEAREST[..., :3])


def test_16_bit_tiff_in_planes_is_refused_where_it_would_be_misread(tmp_path: Path) -> None:
    path = tmp_path / "render.tif"
    planes = np.moveaxis(EVERY_BYTE[..., :3], -1, 0)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", byteorder="<")
    sizes = struct.pack("<HHI", 279, 3, 3)  # StripByteCounts, without which planes are not found
    data = path.read_bytes()
    assert sizes in data
    path.write_bytes(data.replace(sizes, struct.pack("<HHI", 60_279, 3, 3)))
    with pytest.raises(ImageUnreadable, match="planes") as caught:
        probe(path)
    assert "interleaved" in caught.value.hint


def test_16_bit_colour_keeps_profile_and_orientation(put: Put) -> None:
    red = b"".join(b"\0" + struct.pack(">3H", 0xFFFF, 0, 0) * 40 for _ in range(20))
    profile = chunk(b"iCCP", b"swapped\0\0" + zlib.compress(swapped_profile()))
    exif = Image.Exif()
    exif[0x0112] = 6
    turn = chunk(b"eXIf", exif.tobytes()[6:])
    image = load_image(put(png(40, 20, 16, 2, red, profile, turn)))
    assert image.size == (20, 40)
    assert np.allclose(image.getpixel((5, 5)), (0, 255, 0), atol=3)


def test_16_bit_colour_with_a_transparent_colour(put: Put) -> None:
    # The right differs from the left in low bytes alone.
    left = struct.pack(">3H", 0x1234, 0xABCD, 0xFFFF)
    right = struct.pack(">3H", 0x1235, 0xABCD, 0xFFFF)
    rows = b"".join(b"\0" + left * 10 + right * 10 for _ in range(20))
    image = load_image(put(png(20, 20, 16, 2, rows, chunk(b"tRNS", left))))
    assert image.getpixel((2, 2)) == (0x12, 0xAB, 0xFF, 0)
    assert image.getpixel((15, 2)) == (0x12, 0xAB, 0xFF, 255)


def test_palette_with_transparency(put: Put) -> None:
    pixels = Image.new("P", (32, 32), 0)
    pixels.putpalette([10, 20, 30, 200, 100, 50])
    pixels.paste(1, (16, 0, 32, 32))
    image = load_image(put(encoded(pixels, "PNG", transparency=bytes([0, 128]))))
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0)) == (10, 20, 30, 0)
    assert image.getpixel((20, 0)) == (200, 100, 50, 128)
    assert load_image(put(encoded(pixels, "PNG"))).mode == "RGB"


def test_transparent_gif(put: Put) -> None:
    pixels = Image.new("P", (32, 32), 0)
    pixels.putpalette([10, 20, 30, 200, 100, 50])
    pixels.paste(1, (16, 0, 32, 32))
    image = load_image(put(encoded(pixels, "GIF", transparency=0), "icon.gif"))
    assert image.getpixel((0, 0))[3] == 0
    assert image.getpixel((20, 0)) == (200, 100, 50, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_and_bilevel(mode: str, put: Put) -> None:
    image = load_image(put(encoded(ASTRONAUT.convert(mode), "PNG")))
    assert image.mode == "RGB"
    assert difference(image, ASTRONAUT.convert(mode).convert("RGB")) == 0


def test_lab_tiff(put: Put) -> None:
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = ImageCms.applyTransform(ASTRONAUT, to_lab)
    assert lab is not None
    assert difference(load_image(put(encoded(lab, "TIFF"), "a.tif")), ASTRONAUT) < 3


def test_alpha_is_kept_only_where_something_shows_through(put: Put) -> None:
    cutout = ASTRONAUT.copy()
    cutout.putalpha(255)
    assert load_image(put(encoded(cutout, "PNG"))).mode == "RGB"
    cutout.putalpha(Image.linear_gradient("L").resize(cutout.size))
    image = load_image(put(encoded(cutout, "PNG")))
    assert image.mode == "RGBA"
    assert difference(image, cutout) == 0


# Colour profiles


def icc(space: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ") -> bytes:
    """An ICC profile, version 2, class input for CMYK and display else (ICC.1:2001-04)."""
    offset, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    head = bytearray(128)
    head[0:4] = struct.pack(">I", offset + len(body))
    head[8:24] = b"\x02\x40\0\0" + kind + space + pcs
    head[36:40] = b"acsp"
    head[68:80] = struct.pack(">3i", 63190, 65536, 54061)
    return bytes(head) + table + body


def grey_profile(gamma: float) -> bytes:
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    return icc(b"GRAY", {b"wtpt": white, b"kTRC": curve})


def cmyk_profile_that_is_all(lab: tuple[int, int, int]) -> bytes:
    """Each of the 16 corners of CMYK has the same colour, as 8-bit CIELAB."""
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + bytes(lab) * 16 + ramp * 3
    return icc(b"CMYK", {b"A2B0": lut, b"A2B1": lut}, b"Lab ")


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """sRGB with the primaries of red and green exchanged."""
    data = srgb_profile()
    return data.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


def test_rgb_profile_is_applied_and_alpha_kept(put: Put) -> None:
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 77))
    image.putpixel((0, 0), (255, 0, 0, 0))
    image = load_image(put(encoded(image, "PNG", icc_profile=swapped_profile())))
    assert image.mode == "RGBA"
    assert np.allclose(image.getpixel((5, 5)), (0, 255, 0, 77), atol=3)


def test_srgb_profiles_change_no_pixel(put: Put) -> None:
    red = struct.pack(">i", 28576)  # its X, which other makers' sRGB profiles round otherwise
    similar = srgb_profile().replace(red, struct.pack(">i", 28676), 1)
    for profile in (srgb_profile(), similar):
        path = put(encoded(ASTRONAUT, "PNG", icc_profile=profile))
        assert difference(load_image(path), ASTRONAUT) == 0


def test_grey_profile_is_applied(put: Put) -> None:
    grey = Image.new("L", (32, 32), 55)
    linear = load_image(put(encoded(grey, "PNG", icc_profile=grey_profile(1.0))))
    assert np.allclose(linear.getpixel((3, 3)), 128, atol=3)


def test_cmyk_profile_is_applied(put: Put) -> None:
    cyan = Image.new("CMYK", (32, 32), (255, 0, 0, 0))
    profile = cmyk_profile_that_is_all((136, 208, 195))
    image = load_image(put(encoded(cyan, "JPEG", icc_profile=profile), "print.jpg"))
    red, green, blue = image.getpixel((3, 3))
    assert red > 200
    assert max(green, blue) < 80


@pytest.mark.parametrize("profile", [b"not a profile", srgb_profile()[:200], grey_profile(1.0)])
def test_a_broken_or_foreign_profile_is_ignored(profile: bytes, put: Put) -> None:
    path = put(encoded(ASTRONAUT, "PNG", icc_profile=profile))
    assert difference(load_image(path), ASTRONAUT) == 0


# What is not whole, or no picture


CUTS = [
    ("PNG", {}),
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("WEBP", {}),
    ("GIF", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("BMP", {}),
    ("AVIF", {}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "options"), CUTS)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.98])
def test_truncated(kind: str, options: dict[str, Any], share: float, put: Put) -> None:
    data = encoded(ASTRONAUT, kind, **options)
    path = put(data[: int(len(data) * share)])
    for read in (load_image, probe):
        with pytest.raises(ImageUnreadable) as caught:
            read(path)
        assert caught.value.detail


@pytest.mark.parametrize(("kind", "lost"), [("PNG", 9), ("PNG", 13), ("GIF", 2), ("JPEG", 1)])
def test_the_last_bytes_count(kind: str, lost: int, put: Put) -> None:
    with pytest.raises(ImageUnreadable, match="truncated"):
        load_image(put(encoded(ASTRONAUT, kind)[:-lost]))


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_an_animation_that_breaks_off_later(kind: str, share: float, put: Put) -> None:
    others = [ASTRONAUT.rotate(40 * i) for i in range(1, 5)]
    data = encoded(ASTRONAUT, kind, save_all=True, append_images=others)
    with pytest.raises(ImageUnreadable, match="truncated"):
        probe(put(data[: int(len(data) * share)]))


def test_a_gif_without_trailer_is_whole(put: Put) -> None:
    assert load_image(put(encoded(ASTRONAUT, "GIF")[:-1], "a.gif")).size == (160, 120)


FAKES = {
    "empty": b"",
    "text": b"this is a shopping list\n" * 40,
    "html": b"<!doctype html><title>404</title>" * 20,
    "png signature": b"\x89PNG\r\n\x1a\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"/>',
    "zeros": bytes(4096),
}


@pytest.mark.parametrize("data", FAKES.values(), ids=FAKES.keys())
def test_what_is_no_picture(data: bytes, put: Put) -> None:
    with pytest.raises(ImageUnreadable, match=r"not an image|cut off at its start"):
        load_image(put(data))


@pytest.mark.parametrize("kind", ["PPM", "PCX", "TGA", "ICO", "EPS"])
def test_other_formats_are_never_tried(kind: str, put: Put) -> None:
    with pytest.raises(ImageUnreadable, match="not an image"):
        load_image(put(encoded(ASTRONAUT, kind)))


def test_floating_point_pixels_are_refused_with_a_way_out(put: Put) -> None:
    depth = Image.fromarray(np.linspace(0, 1, 1024, dtype=np.float32).reshape(32, 32))
    with pytest.raises(ImageUnreadable, match=r"floating-point numbers.*OpenEXR.*16 bits"):
        probe(put(encoded(depth, "TIFF")))


def test_flipped_bytes_never_escape_as_another_error(put: Put) -> None:
    random = np.random.default_rng(7)
    outcomes = {"read": 0, "refused": 0}
    for kind in FORMATS:
        clean = encoded(ASTRONAUT.resize((48, 36)), kind)
        for _ in range(40):
            data = bytearray(clean)
            for place in random.integers(0, len(data), 6):
                data[place] = random.integers(0, 256)
            try:
                load_image(put(bytes(data)))
                outcomes["read"] += 1
            except (ImageUnreadable, ImageTooLarge, ImageTooSmall):
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 20


def test_a_failing_disk_is_not_the_picture_s_fault(
    put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(OSError, match="Input/output"):
        probe(put(encoded(ASTRONAUT, "PNG")))


def test_a_file_that_is_gone_is_not_the_picture_s_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "gone.png")


# Sizes


@pytest.mark.parametrize("size", [(1, 1), (15, 400), (400, 15)])
def test_too_small(size: tuple[int, int], put: Put) -> None:
    with pytest.raises(ImageTooSmall, match=f"{size[0]} x {size[1]} px"):
        probe(put(encoded(Image.new("RGB", size), "PNG")))


def test_the_smallest_that_will_do(put: Put) -> None:
    assert load_image(put(encoded(Image.new("RGB", (16, 16)), "PNG"))).size == (16, 16)


@pytest.mark.parametrize(
    ("width", "height"), [(10_001, 10_000), (32_769, 16), (50_000, 50_000), (2**31 - 1, 2**31 - 1)]
)
def test_a_huge_header_is_refused_before_decoding(width: int, height: int, put: Put) -> None:
    with pytest.raises(ImageTooLarge):
        load_image(put(png(width, height, 8, 2, b"")))


def test_just_below_the_limit_gets_as_far_as_decoding(put: Put) -> None:
    with pytest.raises(ImageUnreadable):
        load_image(put(png(10_000, 10_000, 1, 0, b"")))


def test_threads_may_read_at_once(put: Put) -> None:
    path = put(encoded(ASTRONAUT, "JPEG"))
    seen: list[ImageFacts] = []
    threads = [threading.Thread(target=lambda: seen.append(probe(path))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [ImageFacts("JPEG", 160, 120)] * 6


# Names and writing


def test_save_png_is_deterministic_and_readable(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save_png(ASTRONAUT, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert difference(load_image(tmp_path / "a.png"), ASTRONAUT) == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.info == {}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    save_png(ASTRONAUT, tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(OSError, match="cannot write mode"):
        save_png(Image.new("HSV", (20, 20)), tmp_path / "a.png")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [before]
