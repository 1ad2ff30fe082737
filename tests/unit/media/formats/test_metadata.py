"""Broken metadata of JPEG, WebP and TIFF: the picture is read all the same, with its profile."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from dna_pipeline.media.formats import tiff_tags
from dna_pipeline.media.images import load_image

PIXELS = np.random.default_rng(2).integers(0, 256, (24, 32, 3)).astype(np.uint8)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF/></x:xmpmeta>' * 5


def swapped_profile() -> bytes:
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return data.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


def exif() -> Image.Exif:
    made = Image.Exif()
    made[0x010F] = "Maker"
    made[0x8769] = {0x9003: "2026:01:01 00:00:00", 0x927C: b"note" * 30}
    made[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    return made


def segments(data: bytes) -> list[tuple[int, int]]:
    """Where the contents of a JPEG's APP1 to APP13 and comments begin and end."""
    found, at = [], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xE1 <= data[at + 1] <= 0xED or data[at + 1] == 0xFE:
            found.append((at + 4, end))
        at = end
    return found


def chunks(data: bytes) -> list[tuple[int, int]]:
    """Where the contents of a WebP's metadata begin and end."""
    found, at = [], 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] in (b"EXIF", b"XMP ", b"ICCP"):
            found.append((at + 8, at + 8 + size))
        at += 8 + size + size % 2
    return found


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_metadata_of_noise(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    options = {"exif": exif(), "xmp": XMP, "icc_profile": swapped_profile()}
    image = Image.fromarray(PIXELS)
    image.save(
        buffer, kind, quality=100, **options, **({"comment": b"x"} if kind == "JPEG" else {})
    )
    clean = buffer.getvalue()
    places = segments(clean) if kind == "JPEG" else chunks(clean)
    assert len(places) >= 3
    random = np.random.default_rng(3)
    for begin, end in places:
        for kept in (0, 6, 14):
            data = bytearray(clean)
            start = min(begin + kept, end)
            data[start:end] = random.bytes(end - start)
            (tmp_path / "a.jpg").write_bytes(data)
            assert load_image(tmp_path / "a.jpg").size in ((32, 24), (24, 32))


UNUSED = [270, 305, 306, 315, 700, 33723, 34377]


@pytest.mark.slow
@pytest.mark.parametrize("is_big", [False, True])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tag", UNUSED)
def test_tags_of_a_tiff_that_point_nowhere(
    tmp_path: Path, tag: int, compression: str | None, is_big: bool
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, PIXELS, photometric="rgb", compression=compression, bigtiff=is_big, metadata=None,
        description="a description of some length", software="a program of some name",
        datetime="2026:01:01 00:00:00", iccprofile=swapped_profile(),
        extratags=[(315, 2, None, "somebody" * 4, True)]
        + [(other, 7, None, XMP, True) for other in (700, 33723, 34377)],
    )  # fmt: skip
    clean = path.read_bytes()
    want = np.asarray(load_image(path))
    assert np.abs(want[..., [1, 0, 2]].astype(int) - PIXELS).max() <= 2, "the profile was applied"
    entry = next(e for e in tiff_tags.read(io.BytesIO(clean)) if e.tag == tag)
    wide = 8 if is_big else 4
    for kind, count, offset in (
        (7, 2**31, 8), (2, 1000, len(clean) - 5), (12, 2**32 - 1, 2**32 - 1), (3, 2, 0), (99, 9, 9),
        (5, 2**20, 100), (4, 1, 0),
    ):  # fmt: skip
        data = bytearray(clean)
        field = count.to_bytes(wide, "little") + offset.to_bytes(wide, "little")
        data[entry.place + 2 : entry.place + 4 + 2 * wide] = kind.to_bytes(2, "little") + field
        path.write_bytes(data)
        assert np.array_equal(np.asarray(load_image(path)), want)
