"""Pictures as PNG, WebP and JPEG, read back by Pillow and by other people's tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sd_parsers import ParserManager

from dna_pipeline.media.images import load_image
from dna_pipeline.media.picture_writer import (
    FORMATS,
    TEXT_LEFT_OUT,
    Encoding,
    FormatName,
    is_lossless,
    save_picture,
)

PROMPT = "an öwl, 日本 🦉"
TEXT = (
    f"{PROMPT}\nNegative prompt: fog\n"
    "Steps: 20, Sampler: Euler, Schedule type: Normal, CFG scale: 7.5, Seed: 42, Size: 80x64"
)
NAMES: list[FormatName] = list(FORMATS)


def picture(mode: str = "RGB", size: tuple[int, int] = (80, 64)) -> Image.Image:
    shape = (size[1], size[0], len(mode))
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


def smooth() -> Image.Image:
    channels = [Image.linear_gradient("L"), Image.radial_gradient("L")]
    return Image.merge("RGB", [*channels, channels[0].rotate(90)])


def saved(
    folder: Path,
    image: Image.Image,
    name: FormatName,
    quality: int = 90,
    parameters: str = "",
) -> tuple[Path, list[str]]:
    path = folder / f"a{FORMATS[name].suffix}"
    remarks = save_picture(image, path, Encoding(name, quality), parameters)
    return path, remarks


@pytest.mark.parametrize("name", NAMES)
def test_the_text_is_read_back(tmp_path: Path, name: FormatName):
    path, remarks = saved(tmp_path, picture(), name, 90, TEXT)
    info = ParserManager().parse(path)
    assert info is not None
    assert [prompt.value for prompt in info.prompts] == [PROMPT]
    assert info.samplers[0].parameters["seed"] == "42"
    with Image.open(path) as image:
        image.load()
        assert image.get_format_mimetype() == FORMATS[name].media_type
    assert remarks == []


@pytest.mark.parametrize("name", NAMES)
def test_without_metadata_there_is_none(tmp_path: Path, name: FormatName):
    path, _ = saved(tmp_path, picture(), name)
    with Image.open(path) as image:
        image.load()
        assert not {"exif", "xmp", "parameters", "icc_profile"} & set(image.info)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quality", [1, 90, 100])
def test_equal_pictures_give_equal_bytes(tmp_path: Path, name: FormatName, quality: int):
    parameters = TEXT
    first = saved(tmp_path, picture(), name, quality, parameters)[0].read_bytes()
    assert saved(tmp_path, picture(), name, quality, parameters)[0].read_bytes() == first


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quality", [1, 99, 100])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_lossless_is_so_and_nothing_else(tmp_path: Path, name: FormatName, quality: int, mode: str):
    path, _ = saved(tmp_path, picture(mode), name, quality)
    with Image.open(path) as image:
        is_same = image.mode == mode and image.tobytes() == picture(mode).tobytes()
    assert is_same == is_lossless(name, quality)


@pytest.mark.parametrize("name", ["webp", "jpeg"])
def test_a_higher_quality_is_nearer(tmp_path: Path, name: FormatName):
    errors: list[float] = []
    for quality in (10, 50, 90):
        path, _ = saved(tmp_path, smooth(), name, quality)
        found = np.asarray(load_image(path), float)
        errors.append(float(np.abs(found - np.asarray(smooth(), float)).mean()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 2


def test_a_lossy_webp_keeps_alpha_as_it_is(tmp_path: Path):
    path, remarks = saved(tmp_path, picture("RGBA"), "webp", 50)
    with Image.open(path) as image:
        assert image.getchannel("A").tobytes() == picture("RGBA").getchannel("A").tobytes()
    assert remarks == []


def test_a_jpeg_is_put_on_white(tmp_path: Path):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((200, 30, 30, 255), (32, 0, 64, 64))
    path, remarks = saved(tmp_path, image, "jpeg")
    found = load_image(path)
    assert found.mode == "RGB"
    assert min(found.getpixel((8, 32))) > 250
    assert abs(found.getpixel((56, 32))[0] - 200) < 8
    assert ["put on white" in remark for remark in remarks] == [True]


@pytest.mark.parametrize("quality", [1, 50, 90, 100])
@pytest.mark.parametrize("size", [(16, 16), (300, 300)])
def test_long_texts_fit_a_jpeg_or_are_left_out(tmp_path: Path, quality: int, size: tuple[int, int]):
    image = picture("RGB", size)
    path, remarks = saved(tmp_path, image, "jpeg", quality, "a" * 32_600)
    assert remarks == []
    with Image.open(path) as found:
        found.load()
        assert len(found.info["exif"]) > 65_000
    path, remarks = saved(tmp_path, image, "jpeg", quality, "a" * 32_800)
    assert remarks == [TEXT_LEFT_OUT]
    assert load_image(path).size == size


def test_the_text_of_a_png_stands_before_the_pixels_in_the_fitting_chunk(tmp_path: Path):
    data = saved(tmp_path, picture(), "png", parameters="café")[0].read_bytes()
    assert data.index(b"tEXtparameters\0caf\xe9") < data.index(b"IDAT")
    path, _ = saved(tmp_path, picture(), "png", parameters="日本 \0語")
    assert path.read_bytes().index(b"iTXtparameters\0") < path.read_bytes().index(b"IDAT")
    with Image.open(path) as image:
        assert image.info["parameters"] == "日本 語"
