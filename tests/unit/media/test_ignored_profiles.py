"""Colour profiles and chunks of a PNG that are there and do not count: a warning says so."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms

from dna_pipeline.media.images import load_image

PICTURE = Image.linear_gradient("L").resize((32, 32)).convert("RGB")
IGNORED = "The picture's colour profile is damaged, or for other channels than the picture has"
SRGB: bytes = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # pyright: ignore[reportArgumentType]
GREY_MARKED = SRGB[:16] + b"GRAY" + SRGB[20:]


def encoded(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, kind, **options)
    return buffer.getvalue()


def remarks_of(data: bytes, tmp_path: Path) -> list[str]:
    (path := tmp_path / "picture").write_bytes(data)
    remarks: list[str] = []
    assert load_image(path, remarks).tobytes()
    return remarks


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("profile", [GREY_MARKED, b"no profile at all", SRGB[:200]], ids=len)
def test_a_profile_of_no_use(kind: str, profile: bytes, tmp_path: Path) -> None:
    (remark,) = remarks_of(encoded(kind, icc_profile=profile), tmp_path)
    assert remark.startswith(IGNORED)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_sound_profile_is_quiet(kind: str, tmp_path: Path) -> None:
    assert remarks_of(encoded(kind, icc_profile=SRGB), tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "data"),
    [(b"gAMA", struct.pack(">I", 100_000)), (b"sRGB", b"\0"), (b"cICP", bytes([9, 16, 0, 1]))],
)
def test_a_chunk_behind_the_pixels(kind: bytes, data: bytes, tmp_path: Path) -> None:
    chunk = struct.pack(">I", len(data)) + kind + data
    chunk += struct.pack(">I", zlib.crc32(kind + data))
    png = encoded("PNG")
    at = png.index(b"IEND") - 4
    assert remarks_of(png[:at] + chunk + png[at:], tmp_path) == [
        f"The PNG's {kind.decode()} chunk stands behind the pixels, where none counts, and was "
        "ignored."
    ]
    begin = png.index(b"IDAT") - 4
    both = png[:begin] + chunk + png[begin:at] + chunk + png[at:]
    assert not any("behind" in remark for remark in remarks_of(both, tmp_path))
