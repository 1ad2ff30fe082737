"""`from_metadata` of JPEG and WebP: the comment in EXIF, as other programs write it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from dna_pipeline.config.image_metadata import MetadataError, parameters_of
from dna_pipeline.intake.planning.exif_texts import exif_texts
from dna_pipeline.intake.planning.image_texts import ImageTexts
from dna_pipeline.media.picture_writer import FORMATS, Encoding, FormatName, save_picture
from dna_pipeline.stages.img2img.parameters_text import parameters_text
from dna_pipeline.stages.img2img.stage import Img2Img

TEXT = "a 猫, red 🦉\nNegative prompt: fog\nSteps: 9, Sampler: Euler, CFG scale: 6.5, Seed: 3"
VALUES = {
    "prompt": "a 猫, red 🦉", "negative_prompt": "fog", "steps": 9, "sampler": "Euler",
    "guidance_scale": 6.5, "seed": 3,
}  # fmt: skip


def tiff(comment: bytes, order: str = ">", *, is_nested: bool = True) -> bytes:
    """EXIF with a comment in its own directory, or in the first one, as piexif lays it out."""
    head = {">": b"MM\0*", "<": b"II*\0"}[order] + struct.pack(f"{order}I", 8)
    second = 8 + 2 + 12 + 4
    at = second + (2 + 12 + 4 if is_nested else 0)
    entry = struct.pack(f"{order}HHHIII", 1, 0x9286, 7, len(comment), at, 0)
    if not is_nested:
        return head + entry + comment
    return head + struct.pack(f"{order}HHHIII", 1, 0x8769, 4, 1, second, 0) + entry + comment


def jpeg(path: Path, exif: bytes) -> Path:
    """As piexif inserts it: the segment right behind the start."""
    Image.new("RGB", (16, 16)).save(path, "JPEG")
    body = b"Exif\0\0" + exif
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    data = path.read_bytes()
    path.write_bytes(data[:2] + segment + data[2:])
    return path


def webp(path: Path, exif: bytes) -> Path:
    Image.new("RGB", (16, 16)).save(path, "WEBP", exif=exif)
    return path


UNICODE = b"UNICODE\0"


@pytest.mark.parametrize("write", [jpeg, webp])
@pytest.mark.parametrize(
    ("comment", "options"),
    [
        (UNICODE + TEXT.encode("utf-16-be"), {}),  # AUTOMATIC1111
        (UNICODE + TEXT.encode("utf-16-be"), {"order": "<"}),
        (UNICODE + TEXT.encode("utf-16-le"), {"order": "<"}),
        (UNICODE + TEXT.encode("utf-16"), {}),
        (UNICODE + f"{TEXT}\0".encode("utf-16-be"), {}),
        (b"ASCII\0\0\0" + TEXT.encode(), {}),
        (bytes(8) + TEXT.encode(), {}),
        (TEXT.encode(), {"is_nested": False}),  # Fooocus
    ],
)
def test_every_form_of_the_comment(
    tmp_path: Path, write: Any, comment: bytes, options: dict[str, Any]
):
    path = write(tmp_path / "a.bin", tiff(comment, **options))
    assert parameters_of(ImageTexts().of(path)) == VALUES


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "png"])
@pytest.mark.parametrize("prompt", ["a cat", "日本", ""])
def test_our_own_pictures_come_back(tmp_path: Path, name: FormatName, prompt: str):
    stage = Img2Img(
        model="sd", prompt=prompt, steps=25, seed=9, sampler="dpmpp_2m", schedule="karras",
        guidance_scale=7.0, clip_skip=2,
    )  # fmt: skip
    path = tmp_path / "a.bin"
    text = parameters_text(stage, (64, 64))
    save_picture(Image.new("RGB", (64, 64)), path, Encoding(name, 80), text)
    values = Img2Img.translated(parameters_of(ImageTexts().of(path)))
    assert Img2Img(model="sd", **values) == stage


def test_fooocus_writes_json(tmp_path: Path):
    path = jpeg(tmp_path / "a.jpg", tiff(b'{"prompt": "a bee", "steps": 30}', is_nested=False))
    assert parameters_of(ImageTexts().of(path)) == {"prompt": "a bee", "steps": 30}


def test_a_note_of_a_camera_is_no_prompt(tmp_path: Path):
    path = jpeg(tmp_path / "a.jpg", tiff(b"ASCII\0\0\0Screenshot"))
    assert exif_texts(path) == {"UserComment": "Screenshot"}
    with pytest.raises(MetadataError, match="form that is read here: UserComment"):
        parameters_of(ImageTexts().of(path))


@pytest.mark.parametrize("write", [jpeg, webp])
@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"no tiff",
        tiff(b""),
        tiff(UNICODE + b"\xd8\x01"),
        tiff(bytes(100)),
        tiff(b"\xff\xfe\xfd raw"),
        tiff(TEXT.encode())[:30],
        b"MM\0*" + b"\xff" * 4,
        b"MM\0*\0\0\0\x08\xff\xff",
    ],
)
def test_damage_is_no_text(tmp_path: Path, write: Any, exif: bytes):
    assert exif_texts(write(tmp_path / "a.bin", exif)) == {}


@pytest.mark.parametrize("write", [jpeg, webp])
def test_files_that_break_off(tmp_path: Path, write: Any):
    whole = write(tmp_path / "a.bin", tiff(UNICODE + TEXT.encode("utf-16-be"))).read_bytes()
    part = tmp_path / "part.bin"
    for length in range(12, len(whole)):
        part.write_bytes(whole[:length])
        assert list(exif_texts(part) or {}) in ([], ["UserComment"])


def test_other_segments_and_chunks_are_passed(tmp_path: Path):
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = {0x9286: b"ASCII\0\0\0" + TEXT.encode()}
    exif[0x010E] = "a picture"
    picture = Image.effect_noise((80, 80), 50)
    for kind in ("JPEG", "WEBP"):
        path = tmp_path / "a.bin"
        options: dict[str, Any] = {"comment": b"hello"} if kind == "JPEG" else {}
        picture.convert("RGB").save(
            path, kind, xmp=b"<x/>", exif=exif, icc_profile=b"profile", **options
        )
        assert exif_texts(path) == {"UserComment": TEXT}
