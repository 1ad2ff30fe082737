"""The img2img stage under a mask: what is repainted, and what keeps its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydantic import ValidationError

from dna_pipeline.base.errors import MaskMismatch, MaskMissing
from dna_pipeline.providers.base import Device, ModelCache
from dna_pipeline.providers.stable_diffusion.provider import Diffusers
from dna_pipeline.stages.base import StageContext
from dna_pipeline.stages.img2img.parameters_text import parameters_text
from dna_pipeline.stages.img2img.sizes import enlarged_size
from dna_pipeline.stages.img2img.stage import Img2Img
from tests.image_models import Recording

CPU = Device("cpu", "float32")
RED = (255, 0, 0)


def red(image: Image.Image) -> Image.Image:
    return Image.new("RGB", image.size, RED)


@pytest.fixture
def model() -> Recording:
    """A model that paints all that it sees in red."""
    return Recording.drawing(red)


@pytest.fixture
def context(tmp_path: Path, model: Recording) -> StageContext:
    cache = ModelCache({"own": model}, CPU)
    return StageContext("img2img", "cat", tmp_path / "source.png", tmp_path, cache, lambda *_: None)


def picture(size: tuple[int, int] = (128, 96), mode: str = "RGB") -> Image.Image:
    """Noise, of which no pixel is red."""
    values = np.random.default_rng(5).integers(0, 200, (size[1], size[0], len(mode)), np.uint8)
    return Image.fromarray(values, mode)


def square(size: tuple[int, int] = (128, 96), box: Any = (40, 30, 79, 69)) -> Image.Image:
    """A mask with a white square, the right and lower edges within it."""
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return mask


def painted(
    context: StageContext, image: Image.Image, mask: Image.Image | None = None, /, **params: Any
) -> Image.Image:
    image.save(context.source)
    context.warnings.clear()
    if mask is not None:
        mask.save(context.work_dir / "given.png")
        context.companions = {"mask": context.work_dir / "given.png"}
    stage = Img2Img.model_validate({"model": "own", "prompt": "an owl", "mask": "file", **params})
    (artifact,) = stage.run(context)
    with Image.open(artifact.path) as result:
        result.load()
        assert (artifact.facts["width"], artifact.facts["height"]) == result.size
        return result


def is_red(image: Image.Image) -> np.ndarray[Any, Any]:
    return (np.asarray(image)[..., :3] == RED).all(axis=-1)


def white(mask: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(mask) == 255


def test_white_is_repainted_and_the_rest_keeps_its_bytes(context: StageContext, model: Recording):
    image, mask = picture(), square()
    result = painted(context, image, mask, mask_blur=0)
    assert np.array_equal(is_red(result), white(mask))
    assert np.array_equal(np.asarray(result)[~white(mask)], np.asarray(image)[~white(mask)])
    assert context.warnings == []
    ((seen, request),) = model.calls
    assert seen.tobytes() == image.tobytes()
    whole_cells = square(box=(40, 24, 79, 71))
    assert request.mask is not None and request.mask.tobytes() == whole_cells.tobytes()


@pytest.mark.parametrize("blur", [0, 4])
@pytest.mark.parametrize("width", [1, 3, 6, 7])
@pytest.mark.parametrize("left", range(40, 48))
def test_the_model_redraws_thin_parts(
    context: StageContext, model: Recording, left: int, width: int, blur: int
):
    mask = square(box=(left, 20, left + width - 1, 79))
    painted(context, picture(), mask, mask_blur=blur)
    request = model.calls[0][1]
    assert request.mask is not None
    redrawn = np.asarray(request.mask)
    assert (redrawn[white(mask)] == 255).all()
    cells = redrawn[::8, ::8]
    assert np.array_equal(redrawn, cells.repeat(8, 0).repeat(8, 1))
    assert (cells == 255).sum() <= 2 * 8  # none but those that the line touches


@pytest.mark.parametrize(
    "params",
    [{}, {"size": "input"}, {"size": "input", "mask_blur": 0}, {"size": "512x384"},
     {"area": "masked"}, {"mask_invert": True}],
)  # fmt: skip
def test_scratches_of_a_large_photo_are_redrawn(
    context: StageContext, model: Recording, params: dict[str, Any]
):
    """They are 20 px wide in 4000 px, so that 2.6 px are left of them at the model's size."""
    mask = square((4000, 3000), (1003, 100, 1022, 2899))
    if "mask_invert" in params:
        mask = mask.point([255 - value for value in range(256)])
    painted(context, picture((4000, 3000)), mask, max_size=512, **params)
    request = model.calls[0][1]
    assert request.mask is not None
    has_white = (np.asarray(request.mask) == 255).any(axis=1)
    assert has_white[16:-24].all()
    assert not any("nothing" in warning for warning in context.warnings)


def test_of_a_mask_that_is_faint_everywhere_it_is_said(context: StageContext, model: Recording):
    painted(context, picture(), square().point([value // 3 for value in range(256)]))
    request = model.calls[0][1]
    assert request.mask is not None and request.mask.getbbox() is None
    assert context.warnings == [
        "The mask is nowhere half white, so the model was asked to redraw nothing."
    ]


def test_blur_softens_the_edge_and_ends(context: StageContext):
    image, mask = picture(), square()
    result = np.asarray(painted(context, image, mask, mask_blur=3))
    same = (result == np.asarray(image)).all(axis=-1)
    far = white(square(box=(40 - 12, 30 - 12, 79 + 12, 69 + 12)))
    assert same[~far].all()
    assert not same[29, 60] and not is_red(Image.fromarray(result))[29, 60]
    assert is_red(Image.fromarray(result))[50, 60]


@pytest.mark.parametrize(("grow", "box"), [(5, (35, 30, 84, 69)), (-5, (45, 35, 74, 64))])
def test_the_mask_grows_and_shrinks(context: StageContext, grow: int, box: Any):
    result = is_red(painted(context, picture(), square(), mask_blur=0, mask_grow=grow))
    left, top, right, bottom = box
    middle = result[50]
    assert (int(middle.argmax()), 127 - int(middle[::-1].argmax())) == (left, right)
    assert result[top, 60] and result[bottom, 60]


def test_an_inverted_mask(context: StageContext):
    result = painted(context, picture(), square(), mask_blur=0, mask_invert=True)
    assert np.array_equal(is_red(result), ~white(square()))


def test_a_mask_of_another_size_is_scaled_with_a_word(context: StageContext):
    small = square((64, 48), (20, 15, 39, 34))
    result = is_red(painted(context, picture(), small, mask_blur=0))
    assert result[32:68, 42:78].all()
    assert not result[:28].any()
    assert context.warnings == [
        "The mask of 64 x 48 px was scaled to the size of the picture, 128 x 96 px."
    ]


def test_a_large_picture_and_its_mask_are_fitted_together(context: StageContext):
    image = picture((256, 192))
    mask = square((256, 192), (80, 60, 159, 139))
    result = painted(context, image, mask, max_size=128, mask_blur=0)
    assert result.size == (128, 96)
    assert is_red(result)[33:67, 43:77].all()
    assert [warning.split(":")[1] for warning in context.warnings] == [" max_size is 128."]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_mask_may_be_drawn_in_colours_or_on_nothing(context: StageContext, mode: str):
    mask = Image.merge(mode, [square()] * len(mode))
    result = painted(context, picture(), mask, mask_blur=0)
    assert np.array_equal(is_red(result), white(square()))


# Area


def test_the_masked_area_alone_is_seen_enlarged(context: StageContext, model: Recording):
    image = picture((400, 300))
    mask = square((400, 300), (100, 100, 139, 119))
    result = painted(context, image, mask, area="masked", padding=10, max_size=256, mask_blur=0)
    ((seen, request),) = model.calls
    assert seen.size == (256, 168)  # of 60 x 40
    assert request.mask is not None and request.mask.size == seen.size
    expected = image.crop((90, 90, 150, 130)).resize(seen.size, Image.Resampling.LANCZOS)
    assert seen.tobytes() == expected.tobytes()
    assert result.size == image.size
    assert np.array_equal(is_red(result), white(mask))
    assert np.array_equal(np.asarray(result)[~white(mask)], np.asarray(image)[~white(mask)])
    assert context.warnings == []


def test_the_padding_ends_with_the_picture(context: StageContext, model: Recording):
    mask = square(box=(0, 0, 127, 19))
    painted(context, picture(), mask, area="masked", padding=76, max_size=128, mask_blur=0)
    assert model.calls[0][0].size == (128, 96)


@pytest.mark.parametrize(
    ("part", "size"), [((60, 40), (256, 168)), ((40, 60), (168, 256)), ((512, 8), (256, 64))]
)
def test_sizes_of_parts(part: tuple[int, int], size: tuple[int, int]):
    assert enlarged_size(*part, 256) == size


def test_the_next_stage_knows_the_size():
    masked = Img2Img(mask="file", area="masked", max_size=256)
    assert masked.output_size(1000, 500) == (1000, 500)
    assert masked.disk_bytes(1000, 500) == 4 * 1000 * 500
    assert masked.work(1000, 500) == 15 * 256**2
    assert Img2Img(area="masked", max_size=256).output_size(1000, 500) == (256, 128)


# Alpha


def holed() -> Image.Image:
    """A picture with a hole, the edge of which is half transparent."""
    image = picture()
    alpha = square().point([255 - value for value in range(256)])
    ImageDraw.Draw(alpha).line([(40, 30), (79, 30)], fill=128)
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize("change", [{}, {"mask_grow": -3}, {"mask_blur": 6}])
def test_what_is_transparent_is_repainted(context: StageContext, change: dict[str, Any]):
    image = holed()
    result = painted(context, image, mask="alpha", **{"mask_blur": 0, **change})
    assert result.mode == "RGB"
    alpha = np.asarray(image)[..., 3]
    assert is_red(result)[alpha == 0].all()
    if not change:
        solid = alpha == 255
        assert np.array_equal(np.asarray(result)[solid], np.asarray(image)[solid][:, :3])
        half = np.asarray(result)[30, 60].astype(int)
        assert abs(half - (np.asarray(image)[30, 60, :3].astype(int) + RED) / 2).max() <= 1


def test_an_opaque_picture_stays_as_it_is(context: StageContext, model: Recording):
    image = picture()
    result = painted(context, image, mask="alpha")
    assert result.tobytes() == image.tobytes()
    assert model.calls == []
    assert context.warnings == [
        "The input has no transparency, which mask: alpha would repaint, so nothing was repainted."
    ]


def test_a_black_mask_leaves_the_picture_as_it_is(context: StageContext):
    image = holed()
    black = Image.new("L", image.size, 0)
    assert painted(context, image, black).tobytes() == image.tobytes()
    assert painted(context, image, black, alpha="white").mode == "RGB"
    assert context.warnings == ["The mask has no white in it, so nothing was repainted."]


def test_alpha_and_hidden_bytes_outside_the_mask_stay(context: StageContext):
    image, mask = picture(mode="RGBA"), square()
    result = painted(context, image, mask, mask_blur=0)
    assert result.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    outside = ~white(mask)
    assert np.array_equal(np.asarray(result)[outside], np.asarray(image)[outside])
    assert painted(context, image, mask, alpha="white").mode == "RGB"


# Parameters


def test_a_mask_that_did_not_come_is_an_error(context: StageContext):
    with pytest.raises(MaskMissing):
        painted(context, picture())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mask", "cat"),
        ("mask", None),
        ("mask_blur", -1),
        ("mask_blur", 257),
        ("mask_grow", -257),
        ("mask_grow", 1.5),
        ("mask_invert", 1),
        ("area", "all"),
        ("padding", -1),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: Any):
    with pytest.raises(ValidationError):
        Img2Img.model_validate({name: value})


@pytest.mark.parametrize(
    ("mask", "companions"),
    [
        ("none", {}),
        ("alpha", {}),
        ("file", {"mask": ""}),
        ("shapes/door.png", {"mask": "shapes/door.png"}),
    ],
)
def test_a_mask_is_a_word_or_a_path(mask: str, companions: dict[str, str]):
    assert Img2Img(mask=mask).companions() == companions


@pytest.mark.parametrize("size", [(64, 64), (128, 100), (96, 128)])
def test_a_mask_of_another_shape_is_refused(context: StageContext, size: tuple[int, int]):
    with pytest.raises(MaskMismatch, match=f"the mask has {size[0]} x {size[1]} px, the picture"):
        painted(context, picture(), Image.new("L", size, 255))


@pytest.mark.parametrize("size", [(64, 48), (127, 95), (33, 25), (129, 97), (1280, 951)])
def test_rounding_makes_no_other_shape(context: StageContext, size: tuple[int, int]):
    painted(context, picture(), Image.new("L", size, 255))
    assert any("was scaled to the size" in text for text in context.warnings)


def test_a_white_mask_repaints_all_and_says_so(context: StageContext):
    result = painted(context, picture(), Image.new("L", (128, 96), 255))
    assert is_red(result).all()
    assert context.warnings == ["The mask is wholly white, so the whole picture was repainted."]


def test_a_mask_of_16_bits(context: StageContext):
    values = (np.asarray(square()) > 0).astype(np.uint16) * 65535
    result = painted(context, picture(), Image.fromarray(values), mask_blur=0)
    assert np.array_equal(is_red(result), white(square()))


def test_what_a_mask_hides_counts_as_black(context: StageContext):
    """The colour under the transparency does not count, and black paint is black."""
    clear = Image.new("L", (128, 96), 0)
    for paint, shows, is_painted in ((square(), square(), True), (clear, square(), False)):
        mask = Image.merge("RGBA", [paint, paint, paint, shows])
        result = is_red(painted(context, picture(), mask, mask_blur=0))
        assert result.any() == is_painted
    elsewhere = square(box=(90, 70, 99, 79))
    hidden = Image.merge("RGBA", [square()] * 3 + [elsewhere])
    assert not is_red(painted(context, picture(), hidden, mask_blur=0)).any()


def test_other_programs_read_the_parameters():
    stage = Img2Img(model="own", mask="file", mask_invert=True, area="masked")
    assert parameters_text(stage, (64, 64)).endswith(
        "Mask blur: 4, Mask mode: Inpaint not masked, Inpaint area: Only masked, "
        "Masked area padding: 32"
    )
    assert "Mask" not in parameters_text(Img2Img(model="own", area="masked"), (64, 64))


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("area", ["whole", "masked"])
def test_a_real_model_repaints(context: StageContext, models_dir: Path, area: str):
    entry = Diffusers(path=models_dir / "sd-v1-5-local", single_file=None)
    context.models = ModelCache({"own": entry}, CPU)
    image, mask = picture(), square()
    result = painted(
        context, image, mask, area=area, steps=2, strength=1.0, max_size=128, mask_blur=0
    )
    changed = (np.asarray(result) != np.asarray(image)).any(axis=-1)
    assert not changed[~white(mask)].any()
    assert changed[white(mask)].mean() > 0.9


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_real_model_repaints_a_line(context: StageContext, models_dir: Path):
    """The prompt shows in it, so that its pixels are no mere passage through the VAE."""
    entry = Diffusers(path=models_dir / "sd-v1-5-local", single_file=None)
    context.models = ModelCache({"own": entry}, CPU)
    mask = square(box=(43, 20, 45, 75))
    params = {"steps": 2, "strength": 1.0, "max_size": 128, "mask_blur": 0}
    one, other = (
        np.asarray(painted(context, picture(), mask, **params, prompt=prompt))
        for prompt in ("an owl", "a blue whale")
    )
    assert (one != other).any(axis=-1)[white(mask)].mean() > 0.5
