"""The picture of a result, and the texts in pictures."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from dna_pipeline.operations.serving.result_pictures import labels_in, picture_path, texts_in

TEXT = (
    'a cat, red\nlarge\nNegative prompt: a dog\nSteps: 4, Sampler: LMS, Seed: 7, TI hashes: "a: b"'
)


@pytest.mark.parametrize(
    ("roles", "path"),
    [
        (["image"], "0"),
        (["intermediate", "image"], "1"),
        (["image", "matte"], "1"),
        (["image", "matte", "mesh", "preview"], "1"),
        (["mesh"], ""),
        ([], ""),
    ],
)
def test_the_picture_is_that_of_the_last_stage_that_made_one(roles: list[str], path: str):
    artifacts: list[Any] = [{"role": role, "path": str(n)} for n, role in enumerate(roles)]
    assert picture_path({"artifacts": artifacts}) == path


def test_texts_of_a_png():
    out, texts = io.BytesIO(), PngImagePlugin.PngInfo()
    texts.add_itxt("parameters", TEXT)
    texts.add_text("Software", "x")
    Image.new("RGB", (8, 8)).save(out, "PNG", pnginfo=texts)
    assert texts_in(out.getvalue()) == {"parameters": TEXT, "Software": "x"}


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_the_comment_of_other_formats(kind: str):
    out, exif = io.BytesIO(), Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + TEXT.encode("utf-16-be")
    Image.new("RGB", (8, 8)).save(out, kind, exif=exif)
    assert texts_in(out.getvalue()) == {"parameters": TEXT}


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1\0\x08Ex"])
def test_no_texts(data: bytes):
    assert texts_in(data) == {}


def test_labels():
    assert labels_in(TEXT) == {
        "Prompt": "a cat, red\nlarge", "Negative prompt": "a dog", "Steps": "4", "Sampler": "LMS",
        "Seed": "7", "TI hashes": "a: b",
    }  # fmt: skip
    assert labels_in('a\nSteps: 4, Sampler: "LMS, Seed: 7')["Sampler"] == '"LMS'
    assert labels_in("a cat") == {"Prompt": "a cat", "Negative prompt": ""}
    assert labels_in("  ") == {}
