"""The img2img stage: sizes of the result, tiles, and the formats of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dna_pipeline.base.errors import ImageTooSmall, ParameterInvalid
from dna_pipeline.base.files import INTERMEDIATE
from dna_pipeline.media.images import load_image
from dna_pipeline.providers.base import Device, ModelCache
from dna_pipeline.providers.stable_diffusion.provider import Diffusers
from dna_pipeline.stages.base import StageContext
from dna_pipeline.stages.img2img.stage import Img2Img
from tests.image_models import Recording

Size = tuple[int, int]
CPU = Device("cpu", "float32")

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]


@pytest.fixture
def copying() -> Recording:
    """A model that gives back what it gets."""
    return Recording()


@pytest.fixture
def context(models_dir: Path, tmp_path: Path, copying: Recording) -> StageContext:
    models = {"copy": copying, "sd15": Diffusers(path=models_dir / "sd-v1-5-local")}
    source = tmp_path / "source.png"
    return StageContext(
        "img2img", "cat", source, tmp_path, ModelCache(models, CPU), lambda *_: None
    )


def picture(size: Size, mode: str = "RGB") -> Image.Image:
    """Noise with at most 200 of 255 in each channel."""
    values = np.random.default_rng(5).integers(0, 200, (size[1], size[0], len(mode)), np.uint8)
    return Image.fromarray(values)


def soft(size: Size) -> Image.Image:
    gradient = Image.linear_gradient("L")
    channels = [gradient, gradient.rotate(90), gradient.rotate(180)]
    return Image.merge("RGB", channels).resize(size)


def ellipse(size: Size) -> Image.Image:
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).ellipse((0, 0, size[0] * 0.7, size[1] * 0.7), fill=255)
    return mask


def made(context: StageContext, image: Image.Image, **params: Any) -> tuple[Image.Image, list[Any]]:
    """The published picture as it is read back, and all files of the stage."""
    image.save(context.source)
    context.warnings.clear()
    values = {"model": "copy", "prompt": "an owl", "steps": 2, "strength": 0.5, **params}
    stage = Img2Img.model_validate(values)
    stage.check()
    files = stage.run(context)
    (published,) = [file for file in files if file.role == "image"]
    result = load_image(published.path)
    assert published.facts == {"width": result.width, "height": result.height}
    assert stage.output_size(*image.size) == result.size
    assert sum(file.path.stat().st_size for file in files) <= max(
        stage.disk_bytes(*image.size), 100_000
    )
    return result, files


# Size


@pytest.mark.parametrize("size", [(333, 517), (512, 512), (16, 16), (17, 401), (768, 767)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_result_of_the_inputs_size_has_each_pixel_in_its_place(
    context: StageContext, copying: Recording, size: Size, mode: str
):
    image = picture(size, mode)
    if mode == "RGBA":
        image.putalpha(ellipse(size))
    result, _ = made(context, image, size="input")
    assert (result.size, result.mode) == (size, mode)
    solid = np.asarray(ellipse(size)) == 255 if mode == "RGBA" else np.full(size[::-1], True)
    assert np.array_equal(np.asarray(result)[solid], np.asarray(image)[solid])
    if mode == "RGBA":
        assert result.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    ((worked_on, _),) = copying.calls
    assert all(side % 8 == 0 and side >= 64 for side in worked_on.size)
    assert context.warnings == []


@pytest.mark.parametrize("size", [(8000, 600), (2001, 1301)])
def test_a_large_picture_is_brought_back_to_its_size(
    context: StageContext, copying: Recording, size: Size
):
    image = soft(size)
    result, _ = made(context, image, size="input", max_size=512)
    assert result.size == size
    assert np.abs(np.asarray(result, float) - np.asarray(image, float)).mean() < 2
    ((worked_on, _),) = copying.calls
    assert max(worked_on.size) == 512
    assert ["max_size is 512" in warning for warning in context.warnings] == [True]


def test_a_picture_too_small_to_be_read_is_refused(context: StageContext):
    with pytest.raises(ImageTooSmall):
        made(context, picture((1, 1)), size="input")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(333, 217), (70, 65)])
def test_the_small_model_redraws_a_picture_of_any_size(context: StageContext, size: Size):
    image = soft(size)
    result, _ = made(context, image, model="sd15", size="input")
    assert result.size == size
    difference = np.asarray(result, float) - np.asarray(image, float)
    assert 0 < np.abs(difference).mean() < 60


# Masks


@pytest.mark.parametrize("max_size", [768, 128])
@pytest.mark.parametrize("area", ["whole", "masked"])
def test_with_a_mask_the_rest_has_the_inputs_own_bytes(
    context: StageContext, copying: Recording, max_size: int, area: str
):
    size = (333, 217)
    image, mask = picture(size), ellipse(size)
    mask.save(context.work_dir / "mask.png")
    context.companions = {"mask": context.work_dir / "mask.png"}
    params = {"mask": "file", "mask_blur": 0, "size": "input", "area": area}
    result, _ = made(context, image, max_size=max_size, **params)
    assert result.size == size
    outside = np.asarray(mask) == 0
    assert np.array_equal(np.asarray(result)[outside], np.asarray(image)[outside])
    ((worked_on, request),) = copying.calls
    assert request.mask is not None and request.mask.size == worked_on.size
    if area == "whole" and max_size == 768:
        cells = (np.asarray(mask)[:216, :328] >= 128).reshape(27, 8, 41, 8).any(axis=(1, 3))
        assert np.array_equal(np.asarray(request.mask)[:216:8, :328:8] == 255, cells)


@pytest.mark.slow
@pytest.mark.parametrize("area", ["whole", "masked"])
def test_a_mask_and_tiles_go_together(context: StageContext, area: str):
    size = (333, 217)
    image, mask = picture(size), ellipse(size)
    mask.save(context.work_dir / "mask.png")
    context.companions = {"mask": context.work_dir / "mask.png"}
    params = {"model": "sd15", "mask": "file", "mask_blur": 0, "size": "input", "area": area}
    at_once, _ = made(context, image, max_size=336, **params)
    in_tiles, _ = made(context, image, max_size=336, tile=128, **params)
    outside = np.asarray(mask) == 0
    assert np.array_equal(np.asarray(in_tiles)[outside], np.asarray(image)[outside])
    inside = [np.asarray(result, float)[~outside] for result in (image, at_once, in_tiles)]
    assert np.abs(inside[2] - inside[1]).mean() < 1 < np.abs(inside[2] - inside[0]).mean()


# Tiles


def test_the_tile_is_passed_on(context: StageContext, copying: Recording):
    made(context, picture((333, 217)), tile=256, max_size=1024)
    made(context, picture((333, 217)))
    assert [request.tile for _, request in copying.calls] == [256, None]
    assert not any("tile" in warning for warning in context.warnings)


def test_a_tile_that_no_picture_exceeds_is_told(context: StageContext):
    made(context, picture((1000, 700)), tile=768)
    assert context.warnings[0] == (
        "tile: 768 divided nothing, since max_size is 768: raise max_size to redraw more pixels."
    )
    made(context, picture((700, 700)), tile=768)
    assert not any("tile" in warning for warning in context.warnings)


def test_tiles_are_more_work_than_their_picture():
    whole = Img2Img(max_size=2048).work(2048, 1024)
    assert whole < Img2Img(max_size=2048, tile=768).work(2048, 1024) < 2.5 * whole
    assert Img2Img(tile=768).work(512, 512) == Img2Img().work(512, 512)
    assert Img2Img(size="input").work(333, 517) == int(20 * 0.75) * 336 * 520


# Formats


@pytest.mark.parametrize(
    ("output", "quality", "name", "media_type", "is_lossy"),
    [
        ("png", 50, "cat.png", "image/png", False),
        ("webp", 100, "cat.webp", "image/webp", False),
        ("webp", 80, "cat.webp", "image/webp", True),
        ("jpeg", 100, "cat.jpg", "image/jpeg", True),
        ("jpeg", 60, "cat.jpg", "image/jpeg", True),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_next_stage_reads_every_pixel(
    context: StageContext,
    output: str,
    quality: int,
    name: str,
    media_type: str,
    is_lossy: bool,
    mode: str,
):
    size = (96, 72)
    image = picture(size, mode)
    if mode == "RGBA":
        image.putalpha(ellipse(size))
    plain, _ = made(context, image)
    result, files = made(context, image, output=output, quality=quality)
    read_next = load_image(files[0].path)
    assert (read_next.mode, read_next.tobytes()) == (mode, plain.tobytes())
    assert (files[-1].path.name, files[-1].media_type) == (name, media_type)
    roles = [INTERMEDIATE, "image"] if is_lossy else ["image"]
    assert [file.role for file in files] == roles
    assert len({file.path for file in files}) == len(files)
    assert (result.tobytes() == plain.tobytes()) != is_lossy
    flattened = ["put on white" in warning for warning in context.warnings]
    assert flattened == ([True] if (output, mode) == ("jpeg", "RGBA") else [])


def test_a_webp_that_is_too_long_is_refused_before_it_is_drawn(
    context: StageContext, copying: Recording
):
    image = Image.new("RGB", (16_400, 16), "red")
    with pytest.raises(ParameterInvalid, match="at most 16383 px a side"):
        made(context, image, size="input", output="webp")
    assert copying.calls == []
    result, _ = made(context, image, size="input", output="jpeg")
    assert result.size == image.size


def test_lossy_files_need_more_disk():
    assert Img2Img(output="jpeg").disk_bytes(512, 512) == 2 * Img2Img().disk_bytes(512, 512)
    large = Img2Img(size="input").disk_bytes(8000, 6000)
    assert large == 4 * 8000 * 6000
