"""PNGs with chunks that nothing uses, or that are wrong: the picture is read all the same."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from dna_pipeline.base.errors import ImageUnreadable
from dna_pipeline.media.formats import png_chunks
from dna_pipeline.media.images import load_image

PIXELS = np.random.default_rng(2).integers(0, 256, (24, 32, 3)).astype(np.uint8)


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 24, 8, 2, 0, 0, 0))
ROWS = zlib.compress(b"".join(b"\0" + row.tobytes() for row in PIXELS))
IDAT, IEND = chunk(b"IDAT", ROWS), chunk(b"IEND", b"")
SPLIT = [chunk(b"IDAT", part) for part in (ROWS[:500], ROWS[500:1200], b"", ROWS[1200:])]


def png(*before: bytes, after: bytes = b"", pixels: bytes = IDAT) -> bytes:
    return png_chunks.SIGNATURE + HEADER + b"".join(before) + pixels + after + IEND


def frame(number: int, width: int = 32, height: int = 24, x: int = 0) -> bytes:
    return chunk(b"fcTL", struct.pack(">5I2H2B", number, width, height, x, 0, 1, 10, 0, 0))


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        (tmp_path / "a.png").write_bytes(data)
        return tmp_path / "a.png"

    return write


def swapped_profile() -> bytes:
    """sRGB with the primaries of red and green exchanged."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return data.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


def padded_profile(size: int) -> bytes:
    """The same with a tag of noise, as profiles with large tables have."""
    profile = bytearray(swapped_profile())
    profile += np.random.default_rng(1).bytes(size - len(profile))
    profile[:4] = struct.pack(">I", len(profile))
    return bytes(profile)


@cache
def zeros() -> bytes:
    """64 MB of them, packed."""
    return zlib.compress(bytes(64 << 20), 9)


@cache
def long_text() -> bytes:
    """6 MB of text that can be packed to half, packed."""
    return zlib.compress(np.random.default_rng(0).bytes(3 << 20).hex().encode())


XMP = b"XML:com.adobe.xmp\0"

UNUSED: dict[str, Callable[[], list[bytes]]] = {
    "compressed text": lambda: [chunk(b"zTXt", b"workflow\0\0" + long_text())],
    "text bomb": lambda: [chunk(b"zTXt", b"Comment\0\0" + zeros())],
    "many text bombs": lambda: [chunk(b"zTXt", b"Comment\0\0" + zeros())] * 40,
    "international text": lambda: [chunk(b"iTXt", XMP + b"\1\0\0\0" + long_text())],
    "large text": lambda: [chunk(b"tEXt", b"prompt\0" + b"x" * (70 << 20))],
    "text of an odd method": lambda: [chunk(b"zTXt", b"a\0\7" + long_text())],
    "text without a key": lambda: [chunk(b"tEXt", b""), chunk(b"zTXt", b"\0"), chunk(b"iTXt", b"")],
    "text with a wrong checksum": lambda: [chunk(b"tEXt", b"a\0b", 7)],
    "orientation bomb": lambda: [chunk(b"zTXt", b"Raw profile type exif\0\0" + zeros())],
    "orientation of an odd method": lambda: [chunk(b"zTXt", b"Raw profile type exif\0\7x")],
    "rubbish for an orientation": lambda: [chunk(b"tEXt", b"Raw profile type exif\0nonsense")],
    "time with a wrong checksum": lambda: [chunk(b"tIME", bytes(7), 7)],
    "private chunk with a wrong checksum": lambda: [chunk(b"prVt", bytes(7), 7)],
    "short resolution": lambda: [chunk(b"pHYs", b"\0")],
    "short gamma": lambda: [chunk(b"gAMA", b"\0")],
    "gamma with a wrong checksum": lambda: [chunk(b"gAMA", struct.pack(">I", 100000), 7)],
    "short chromaticities": lambda: [chunk(b"cHRM", bytes(31))],
    "empty sRGB": lambda: [chunk(b"sRGB", b"")],
    "resolution twice": lambda: [chunk(b"pHYs", bytes(9)), chunk(b"pHYs", bytes(3))],
    "profile bomb": lambda: [chunk(b"iCCP", b"a\0\0" + zeros())],
    "rubbish for a profile": lambda: [chunk(b"iCCP", b"a\0\0" + b"nonsense")],
    "profile of an odd method": lambda: [
        chunk(b"iCCP", b"a\0\7" + zlib.compress(swapped_profile()))
    ],
    "profile without a name": lambda: [chunk(b"iCCP", b"")],
    "profile that is none": lambda: [chunk(b"iCCP", b"a\0\0" + zlib.compress(b"no profile" * 99))],
    "rubbish for EXIF": lambda: [chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xffrubbish")],
    "short animation": lambda: [chunk(b"acTL", b"\0")],
    "animation twice": lambda: [chunk(b"acTL", struct.pack(">2I", 1, 0))] * 2 + [frame(0)],
    "short frame": lambda: [chunk(b"acTL", struct.pack(">2I", 1, 0)), chunk(b"fcTL", b"\0")],
    "frame out of order": lambda: [chunk(b"acTL", struct.pack(">2I", 2, 0)), frame(5)],
    "frame that sticks out": lambda: [chunk(b"acTL", struct.pack(">2I", 2, 0)), frame(0, x=9)],
    "small frame": lambda: [chunk(b"acTL", struct.pack(">2I", 2, 0)), frame(0, 5, 5)],
}
"""Made when they are needed: some are large."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", UNUSED)
@pytest.mark.parametrize("where", ["before", "after", "between"])
def test_the_picture_is_read(put: Callable[[bytes], Path], kind: str, where: str) -> None:
    extra = b"".join(UNUSED[kind]())
    data = {
        "before": png(extra),
        "after": png(after=extra),
        "between": png(pixels=extra.join(SPLIT)),
    }[where]
    image = load_image(put(data))
    assert np.array_equal(np.asarray(image), PIXELS)


@pytest.mark.slow
def test_texts_are_not_unpacked(put: Callable[[bytes], Path]) -> None:
    path = put(png(*UNUSED["many text bombs"](), *UNUSED["profile bomb"]()))
    tracemalloc.start()
    try:
        load_image(path)
        assert tracemalloc.get_traced_memory()[1] < 48 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [5000, 1 << 20, 5 << 20])
def test_a_large_profile_is_applied(put: Callable[[bytes], Path], size: int) -> None:
    profile = chunk(b"iCCP", b"large\0\0" + zlib.compress(padded_profile(size)))
    red = np.full((24, 32, 3), (255, 0, 0), np.uint8)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in red))
    image = load_image(put(png(profile, pixels=chunk(b"IDAT", rows))))
    assert np.allclose(image.getpixel((5, 5)), (0, 255, 0), atol=3)


def turned_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def turned_texts() -> dict[str, bytes]:
    exif = turned_exif()
    profile = f"\nexif\n{len(exif):8}\n{exif.hex()}\n".encode()
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    return {
        "eXIf": chunk(b"eXIf", exif[6:]),
        "zTXt": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
        "tEXt": chunk(b"tEXt", b"Raw profile type exif\0" + profile),
        "iTXt": chunk(b"iTXt", XMP + b"\0\0\0\0" + xmp),
        "packed iTXt": chunk(b"iTXt", XMP + b"\1\0\0\0" + zlib.compress(xmp)),
    }


@pytest.mark.parametrize("kind", turned_texts())
def test_what_says_how_it_is_turned_is_used(put: Callable[[bytes], Path], kind: str) -> None:
    image = load_image(put(png(turned_texts()[kind])))
    assert np.array_equal(np.asarray(image), np.rot90(PIXELS, -1))


def test_transparency_is_used_and_not_passed_over_where_it_is_damaged(
    put: Callable[[bytes], Path],
) -> None:
    key = struct.pack(">3H", *PIXELS[0, 0].tolist())
    image = load_image(put(png(chunk(b"tRNS", key))))
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0))[3] == 0
    for damaged in (chunk(b"tRNS", key, 7), chunk(b"tRNS", key[:3])):
        with pytest.raises(ImageUnreadable, match="PNG"):
            load_image(put(png(damaged)))


def test_an_animation_counts_its_frames(put: Callable[[bytes], Path]) -> None:
    animated = chunk(b"acTL", struct.pack(">2I", 2, 0))
    more = frame(1) + chunk(b"fdAT", struct.pack(">I", 2) + ROWS)
    animations = [
        (png(animated, frame(0), after=more), 2),
        (png(animated, after=frame(0) + more), 3),
        (png(), 1),
    ]
    for data, count in animations:
        assert png_chunks.view(io.BytesIO(data)).frames == count


@pytest.mark.parametrize("size", [60, 400, 1500, len(png()) - 13, len(png()) - 9])
def test_a_part_of_a_file_is_never_read(put: Callable[[bytes], Path], size: int) -> None:
    for extra in (b"", chunk(b"zTXt", b"a\0\0" + long_text()[:300])):
        with pytest.raises(ImageUnreadable, match=r"truncated|cut off"):
            load_image(put(png(extra)[:size]))
    with pytest.raises(ImageUnreadable, match="truncated"):
        load_image(put(png(after=chunk(b"tEXt", b"a\0" + bytes(500)))[:-300]))


def test_a_damaged_header_is_refused(put: Callable[[bytes], Path]) -> None:
    data = bytearray(png())
    data[20] ^= 1
    with pytest.raises(ImageUnreadable, match="the PNG is"):
        load_image(put(bytes(data)))


def test_the_view_reads_as_a_file_does() -> None:
    extra = chunk(b"tEXt", b"a\0b" * 40)
    whole = png_chunks.view(io.BytesIO(png(extra, after=extra, pixels=extra.join(SPLIT)))).file
    assert whole.read() == png(pixels=b"".join(SPLIT))
    assert whole.seek(-12, io.SEEK_END) == len(png(pixels=b"".join(SPLIT))) - 12
    assert whole.read(99) == IEND
    whole.seek(8)
    assert (whole.read(25), whole.tell()) == (HEADER, 33)


def test_colours_are_handed_over_apart_and_the_first_sound_one_counts() -> None:
    gamma = [chunk(b"gAMA", struct.pack(">I", value)) for value in (100_000, 45_455, 50_000)]
    damaged = chunk(b"gAMA", b"\0"), chunk(b"sRGB", b""), chunk(b"iCCP", b"a\0\0rubbish")
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(b"some profile"))
    late = chunk(b"cICP", bytes(4)) + chunk(b"cHRM", b"")
    data = png(*damaged, damaged[0], gamma[0], profile, gamma[1], after=late + gamma[2])
    seen = png_chunks.view(io.BytesIO(data))
    assert seen.colours == {b"gAMA": struct.pack(">I", 100_000), b"iCCP": b"some profile"}
    assert seen.damaged == ["gAMA", "sRGB", "iCCP"]
    assert seen.is_whole
    assert seen.file.read() == png()
    assert not png_chunks.view(io.BytesIO(data[:-9])).is_whole
