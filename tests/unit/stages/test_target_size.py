"""Widths and heights that people choose: which are taken, and which part of a picture is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydantic import ValidationError

from dna_pipeline.base.errors import MaskMismatch
from dna_pipeline.providers.base import Device, ModelCache
from dna_pipeline.stages.base import StageContext
from dna_pipeline.stages.img2img.stage import Img2Img
from dna_pipeline.stages.img2img.target_size import Resize, Size, TargetSize, parse
from tests.image_models import Recording

CPU = Device("cpu", "float32")


@pytest.fixture
def model() -> Recording:
    """A model that gives back what it gets."""
    return Recording()


@pytest.fixture
def context(tmp_path: Path, model: Recording) -> StageContext:
    cache = ModelCache({"own": model}, CPU)
    return StageContext("img2img", "cat", tmp_path / "source.png", tmp_path, cache, lambda *_: None)


def made(context: StageContext, image: Image.Image, **params: Any) -> Image.Image:
    image.save(context.source)
    stage = Img2Img.model_validate({"model": "own", "prompt": "an owl", **params})
    stage.check()
    (artifact,) = stage.run(context)
    with Image.open(artifact.path) as result:
        result.load()
    assert result.size == stage.output_size(*image.size)
    assert artifact.path.stat().st_size <= max(stage.disk_bytes(*image.size), 20_000)
    return result


def thirds(size: Size = (300, 100)) -> Image.Image:
    """Red, green and blue, from left to right."""
    image = Image.new("RGB", size, "lime")
    image.paste("red", (0, 0, size[0] // 3, size[1]))
    image.paste("blue", (size[0] * 2 // 3, 0, *size))
    return image


def colours(image: Image.Image) -> list[tuple[int, ...]]:
    """Those at the left edge, in the middle and at the right edge, half-way down."""
    pixels = np.asarray(image.convert("RGB"))[image.height // 2]
    return [tuple(int(v) for v in pixels[x]) for x in (1, image.width // 2, -2)]


@pytest.mark.parametrize("text", ["16x16", "512x768", "4096x16"])
def test_sizes_that_are_taken(text: str):
    width, height = map(int, text.split("x"))
    assert parse(text) == (width, height)
    assert Img2Img(size=text).output_size(3, 5000) == (width, height)


@pytest.mark.parametrize(
    "text",
    ["15x64", "64x15", "4097x64", "512 x 768", "512X768", "512x768 ", "0512x64", "x", "512",
     "-1x64", "9" * 5000 + "x64", "512x768\n"],
)  # fmt: skip
def test_sizes_that_are_refused(text: str):
    with pytest.raises(ValidationError, match="width and height like 512x768"):
        Img2Img(size=text)


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.mark.parametrize(
    ("resize", "expected"),
    [("crop", [GREEN] * 3), ("stretch", [RED, GREEN, BLUE]), ("pad", [RED, GREEN, BLUE])],
)
def test_the_part_that_is_seen(
    context: StageContext, model: Recording, resize: Resize, expected: list[tuple[int, ...]]
):
    result = made(context, thirds(), size="96x96", resize=resize)
    assert result.size == (96, 96)
    assert colours(result) == expected
    ((seen, _),) = model.calls
    assert seen.size == (96, 96)


def test_pad_repeats_the_edges():
    image = Image.new("RGB", (40, 20), "black")
    ImageDraw.Draw(image).line((0, 0, 39, 0), "red")
    ImageDraw.Draw(image).line((0, 19, 39, 19), "blue")
    result = TargetSize((40, 41), "pad").fitted(image)
    pixels = np.asarray(result)
    assert (pixels[:11] == RED).all() and (pixels[29:] == BLUE).all()
    assert np.array_equal(pixels[10:30], np.asarray(image))


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
def test_a_picture_of_the_size_keeps_its_pixels(resize: Resize):
    image = thirds()
    assert TargetSize((300, 100), resize).fitted(image) is image


@pytest.mark.parametrize(("source", "size"), [((50, 40), (512, 256)), ((4000, 30), (64, 64)),
                                              ((1, 900), (333, 517))])  # fmt: skip
@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_any_picture_gets_there(source: Size, size: Size, resize: Resize, mode: str):
    image = Image.new(mode, source, "white")
    result = TargetSize(size, resize).fitted(image)
    assert (result.size, result.mode) == (size, mode)
    assert np.asarray(result).min() == 255


def test_max_size_still_bounds_what_the_model_sees(context: StageContext, model: Recording):
    result = made(context, thirds(), size="512x256", max_size=128)
    assert result.size == (512, 256)
    ((seen, _),) = model.calls
    assert seen.size == (128, 64)
    assert any("max_size is 128" in warning for warning in context.warnings)
    stage = Img2Img(size="512x256", max_size=128, steps=1, strength=1)
    assert stage.work(9, 9) == 128 * 64


@pytest.mark.parametrize("mask_size", [(300, 100), (150, 50)])
def test_a_mask_takes_the_way_of_its_picture(
    context: StageContext, model: Recording, mask_size: Size
):
    mask = Image.new("L", (300, 100), 0)
    mask.paste(255, (100, 0, 200, 100))  # the green third
    mask.resize(mask_size).save(context.work_dir / "mask.png")
    context.companions = {"mask": context.work_dir / "mask.png"}
    params = {"size": "96x96", "resize": "pad", "mask": "file", "mask_blur": 0}
    made(context, thirds(), **params)
    ((_, request),) = model.calls
    assert request.mask is not None
    row = np.asarray(request.mask)[48]
    assert (row[:30] == 0).all() and (row[34:62] == 255).all() and (row[66:] == 0).all()
    made(context, thirds(), **params, area="masked", padding=0, max_size=192)
    width, height = model.calls[-1][0].size
    assert (width < 80, height) == (True, 192)  # the green part alone, thrice as high as wide


def test_a_mask_of_another_shape_than_the_input_is_refused(context: StageContext):
    Image.new("L", (96, 96), 255).save(context.work_dir / "mask.png")
    context.companions = {"mask": context.work_dir / "mask.png"}
    with pytest.raises(MaskMismatch):
        made(context, thirds(), size="96x96", mask="file")


def test_transparency_comes_along(context: StageContext):
    image = thirds().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 100, 100))
    result = made(context, image, size="96x96", resize="stretch")
    assert result.mode == "RGBA"
    alpha = np.asarray(result)[48, :, 3]
    assert (alpha[:30] < 5).all() and (alpha[34:] > 250).all()
