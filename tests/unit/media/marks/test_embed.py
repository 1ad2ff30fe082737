"""Marks in the bytes of pictures, meshes and films; other programs read them."""

from __future__ import annotations

import io
import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from dna_pipeline.media.marks.embed import MEDIA_TYPES, embed
from dna_pipeline.media.marks.packet import GENERATED, Marks, xmp
from dna_pipeline.media.meshes import gltf
from dna_pipeline.media.video import write_mp4

MARKS = Marks(
    "dna-pipeline 1.0", GENERATED, "sd15 (diffusers)", "dna-pipeline 1.0; sd15 sha256:ab",
    creators=("Zoë",), rights="© <Studio>", rating=5, keywords=("hero", "a & b"),
)  # fmt: skip


def picture(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    pixels = np.arange(40 * 24 * 4, dtype=np.uint32).reshape(24, 40, 4) % 251
    file = io.BytesIO()
    image = Image.fromarray(pixels.astype(np.uint8), "RGBA").convert(mode)
    image.save(file, kind, **options)
    return file.getvalue()


def mesh() -> bytes:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)
    normals = np.tile(np.array([[0, 0, 1]], np.float32), (4, 1))
    return gltf.glb(
        vertices, normals, faces, name="cat", colors=np.full((4, 3), 0.5, np.float32),
        extras={"dna_pipeline": {"version": "1"}},
    )  # fmt: skip


def film(tmp_path: Path) -> bytes:
    path = tmp_path / "film.mp4"
    write_mp4(path, [np.full((16, 16, 3), shade, np.uint8) for shade in (0, 90, 250)], 16, 12)
    return path.read_bytes()


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

PICTURES = {
    "png": ("image/png", picture("PNG")),
    "png with alpha": ("image/png", picture("PNG", "RGBA")),
    "jpeg": ("image/jpeg", picture("JPEG")),
    "jpeg with exif": ("image/jpeg", picture("JPEG", exif=Image.Exif(), icc_profile=PROFILE)),
    "webp": ("image/webp", picture("WEBP", quality=80)),
    "webp, odd length": ("image/webp", picture("WEBP", quality=71)),
    "webp with alpha": ("image/webp", picture("WEBP", "RGBA", quality=80)),
    "webp without loss": ("image/webp", picture("WEBP", "RGBA", lossless=True)),
    "webp of parts": ("image/webp", picture("WEBP", icc_profile=PROFILE)),
}


@pytest.mark.parametrize(("media_type", "data"), PICTURES.values(), ids=PICTURES)
def test_a_picture_keeps_its_pixels(media_type: str, data: bytes):
    marked = embed(data, media_type, MARKS)
    assert marked is not None
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(marked))
    assert after.info["xmp"].rstrip(b"\0") == xmp(MARKS)
    assert (after.mode, after.size) == (before.mode, before.size)
    assert after.tobytes() == before.tobytes()
    assert after.info.get("icc_profile") == before.info.get("icc_profile")
    # The same again, and another packet takes the place of the first.
    assert embed(marked, media_type, MARKS) == marked
    other = embed(marked, media_type, Marks("other"))
    assert other is not None and other.count(b"CreatorTool") == 2


def test_text_in_a_png_stays_as_it_was():
    info = PngInfo()
    info.add_text("parameters", "a cat\nSteps: 20")
    info.add_itxt("Größe".encode("latin-1").decode("latin-1"), "naïve")
    marked = embed(picture("PNG", pnginfo=info), "image/png", MARKS)
    assert marked is not None
    image = Image.open(io.BytesIO(marked))
    image.load()
    assert image.text["parameters"] == "a cat\nSteps: 20"


@pytest.mark.parametrize(("media_type", "data"), PICTURES.values(), ids=PICTURES)
def test_exiftool_reads_a_picture(
    media_type: str, data: bytes, tmp_path: Path, exiftool: Callable[[Path], dict[str, Any]]
):
    path = tmp_path / "picture"
    path.write_bytes(embed(data, media_type, MARKS) or b"")
    tags = exiftool(path)
    assert tags["File:MIMEType"] == media_type
    assert not [name for name in tags if name.endswith((":Warning", ":Error"))]
    assert tags["XMP:DigitalSourceType"] == GENERATED
    assert tags["XMP:AISystemUsed"] == MARKS.system
    assert tags["XMP:AISystemVersionUsed"] == MARKS.system_version
    assert tags["XMP:CreatorTool"] == "dna-pipeline 1.0"
    assert tags["XMP:Creator"] == "Zoë"
    assert tags["XMP:Rights"] == "© <Studio>"
    assert tags["XMP:Rating"] == 5
    assert tags["XMP:Subject"] == ["hero", "a & b"]


def frames(path: Path) -> bytes:
    """A hash of each picture of a film, as ffmpeg decodes it."""
    command = [get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "framemd5", "-"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert not done.stderr
    return done.stdout


def test_exiftool_and_the_decoder_read_a_film(
    tmp_path: Path, exiftool: Callable[[Path], dict[str, Any]]
):
    data = film(tmp_path)
    path = tmp_path / "marked.mp4"
    path.write_bytes(embed(data, "video/mp4", MARKS) or b"")
    tags = exiftool(path)
    assert not [name for name in tags if name.endswith((":Warning", ":Error"))]
    assert tags["XMP:DigitalSourceType"] == GENERATED
    (tmp_path / "plain.mp4").write_bytes(data)
    assert frames(path) == frames(tmp_path / "plain.mp4")


def test_exiftool_reads_the_file_beside_another(
    tmp_path: Path, exiftool: Callable[[Path], dict[str, Any]]
):
    path = tmp_path / "cat.turntable.mp4.xmp"
    path.write_bytes(xmp(MARKS))
    tags = exiftool(path)
    assert tags["File:FileType"] == "XMP"
    assert tags["XMP:DigitalSourceType"] == GENERATED


def document(glb: bytes) -> dict[str, Any]:
    (size,) = struct.unpack_from("<I", glb, 12)
    return json.loads(glb[20 : 20 + size])


def test_a_mesh_that_khronos_validator_accepts(validate_gltf: Callable[[bytes], dict[str, Any]]):
    data = mesh()
    marked = embed(data, "model/gltf-binary", MARKS)
    assert marked is not None
    report = validate_gltf(marked)
    # The validator says that it does not look into the extension, and nothing else.
    assert [entry["code"] for entry in report["issues"]["messages"]] == ["UNSUPPORTED_EXTENSION"]
    assert report["info"]["extensionsUsed"] == ["KHR_xmp_json_ld"]
    found = document(marked)
    (packet,) = found["extensions"]["KHR_xmp_json_ld"]["packets"]
    assert found["asset"]["extensions"]["KHR_xmp_json_ld"] == {"packet": 0}
    assert packet["Iptc4xmpExt:DigitalSourceType"] == GENERATED
    # Nothing else changed: the rest of the document, and the vertices behind it.
    del found["extensions"], found["extensionsUsed"], found["asset"]["extensions"]
    assert found == document(data)
    size, marked_size = (struct.unpack_from("<I", glb, 12)[0] for glb in (data, marked))
    assert marked[20 + marked_size :] == data[20 + size :]
    assert embed(marked, "model/gltf-binary", MARKS) == marked


def test_a_mesh_is_loaded_as_before():
    import trimesh

    marked = embed(mesh(), "model/gltf-binary", MARKS)
    assert marked is not None
    (loaded,) = trimesh.load(io.BytesIO(marked), file_type="glb").geometry.values()
    assert loaded.vertices.shape == (4, 3)


@pytest.mark.parametrize("media_type", sorted(MEDIA_TYPES))
@pytest.mark.parametrize("data", [b"", b"no such file", picture("BMP"), picture("PNG")[:20]])
def test_what_is_of_another_format_is_left_alone(media_type: str, data: bytes):
    assert embed(data, media_type, MARKS) is None


def test_a_format_without_a_place_for_marks():
    assert embed(b"solid", "model/stl", MARKS) is None


def test_a_packet_too_long_for_a_jpeg():
    long = Marks("tool", keywords=tuple(f"{n:05} {'x' * 90}" for n in range(700)))
    assert embed(picture("JPEG"), "image/jpeg", long) is None
    assert embed(picture("PNG"), "image/png", long) is not None
