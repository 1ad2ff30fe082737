"""The keyer on renders, product shots and photographs that it must refuse."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw, ImageFilter
from pydantic import ValidationError

from dna_pipeline.base.errors import BackgroundNotPlain, EmptyForeground, ParameterInvalid
from dna_pipeline.providers.base import Device, Matting
from dna_pipeline.providers.matting import keying
from dna_pipeline.providers.matting.border_key import BorderKey

GOLDEN = Path(__file__).parents[3] / "golden" / "triposr-tiny" / "input.png"
WHITE, GREY, BLACK, GREEN = (255, 255, 255), (127, 127, 127), (0, 0, 0), (0, 200, 60)


def alpha(image: Image.Image, **settings: Any) -> np.ndarray:
    """The keyer's alpha as float in [0, 1]."""
    model = BorderKey(**settings).load(Device("cpu", "float32"))
    return np.asarray(model.alpha(image, alpha_matting=False)) / 255


def iou(found: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union of two alphas, each cut at one half."""
    one, other = found > 0.5, true > 0.5
    return float((one & other).sum() / (one | other).sum())


def reduced(values: np.ndarray, size: int) -> np.ndarray:
    """Anti-aliased by averaging."""
    image = Image.fromarray(np.round(np.clip(values, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.resize((size, size), Image.Resampling.BOX)) / 255


@cache
def render(
    backdrop: tuple[int, int, int] = (235, 235, 235),
    paint: tuple[int, int, int] = (200, 60, 40),
    *,
    shadow: float = 0.35,
    slope: float = 0.0,
    vignette: float = 0.0,
    size: int = 512,
) -> tuple[Image.Image, np.ndarray]:
    """A lit, glossy sphere that throws a soft shadow, and its alpha.

    `shadow`, `slope` and `vignette` are shares of the backdrop's brightness.
    """
    side = 2 * size
    y, x = np.mgrid[0:side, 0:side] / side * 2 - 1
    u, v = x / 0.45, (y + 0.05) / 0.45
    z = np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
    light = np.array([-0.5, -0.7, 0.6]) / np.linalg.norm([-0.5, -0.7, 0.6])
    lambert = np.clip(u * light[0] + v * light[1] + z * light[2], 0, 1)
    gloss = 0.8 * np.clip(2 * z * lambert - light[2], 0, 1) ** 40
    ball = (0.25 + 0.75 * lambert)[..., None] * np.array(paint) / 255 + gloss[..., None]
    spot = ((x - 0.05) / 0.45) ** 2 + ((y - 0.38) / 0.13) ** 2 < 1
    blurred = Image.fromarray(spot.astype(np.uint8) * 255).filter(
        ImageFilter.GaussianBlur(side / 28)
    )
    floor = (1 + slope * y) * (1 - vignette * (x * x + y * y))
    floor = floor * (1 - shadow * np.asarray(blurred) / 255)
    inside = u * u + v * v < 1
    scene = np.where(inside[..., None], ball, floor[..., None] * np.array(backdrop) / 255)
    picture = Image.fromarray(np.round(reduced(scene, size) * 255).astype(np.uint8))
    return picture, reduced(inside.astype(float), size)


def mug(size: int = 256) -> tuple[Image.Image, np.ndarray]:
    """A flat mug that stands on the lower border, with a handle and two straws of 3 and 1 px."""
    drawn = []
    for mode, back, fill in (("RGB", (240, 240, 240), (60, 90, 160)), ("L", 0, 255)):
        image = Image.new(mode, (4 * size, 4 * size), back)
        pen = ImageDraw.Draw(image)
        pen.ellipse([600, 360, 900, 720], outline=fill, width=52)
        pen.rectangle([280, 280, 700, 1024], fill=fill)
        pen.line([400, 280, 340, 40], fill=fill, width=12)
        pen.line([560, 280, 660, 60], fill=fill, width=4)
        drawn.append(image.resize((size, size), Image.Resampling.BOX))
    return drawn[0], np.asarray(drawn[1]) / 255


# What it is for


@pytest.mark.parametrize("colour", [WHITE, BLACK, GREEN, (200, 225, 255)])
def test_the_golden_robot_on_a_plain_colour(colour: tuple[int, int, int]) -> None:
    with Image.open(GOLDEN) as robot:
        true = np.asarray(robot.getchannel("A")) / 255
        picture = Image.new("RGBA", robot.size, (*colour, 255))
        picture.alpha_composite(robot)
    found = alpha(picture.convert("RGB"))
    assert iou(found, true) > 0.97
    assert np.abs(found - true).mean() < 0.025


SCENES: dict[str, dict[str, Any]] = {
    "red on light grey": {},
    "grey on light grey": {"paint": (150, 150, 150)},
    "white on light grey": {"paint": (235, 235, 235)},
    "white on white": {"backdrop": WHITE, "paint": (250, 250, 250), "shadow": 0.25},
    "black on light grey": {"paint": (25, 25, 25)},
    "grey on black": {"backdrop": (10, 10, 10), "paint": (150, 150, 150)},
    "skin on green": {"backdrop": (30, 180, 60), "paint": (200, 180, 160)},
    "graded backdrop": {"slope": 0.15},
    "vignette": {"vignette": 0.15},
}


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_a_render_with_a_soft_shadow(scene: dict[str, Any]) -> None:
    picture, true = render(**scene)
    found = alpha(picture)
    assert iou(found, true) > 0.985
    assert np.abs(found - true).mean() < 0.003


@pytest.mark.slow
def test_the_edge_is_anti_aliased() -> None:
    picture, true = render(backdrop=WHITE, shadow=0)
    found = alpha(picture)
    edge = (true > 0.2) & (true < 0.8)
    assert edge.sum() > 100
    assert np.abs(found - true)[edge].mean() < 0.1


@pytest.mark.slow
def test_noise_and_compression() -> None:
    picture, true = render()
    noise = np.random.default_rng(3).normal(0, 4, (512, 512, 3))
    grainy = Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    grainy.save(buffer, "JPEG", quality=80)
    assert iou(alpha(Image.open(buffer).convert("RGB")), true) > 0.95


def test_a_subject_on_the_border_with_thin_parts() -> None:
    picture, true = mug()
    found = alpha(picture, holes=True)
    assert iou(found, true) > 0.99
    assert found[40:60, 140:170].max() > 0.3  # the straw of one pixel
    assert found[-1, 100] == 1


def test_a_subject_that_fills_a_third_of_the_border() -> None:
    picture = render(slope=0.1, shadow=0, size=256)[0].copy()
    picture.paste((90, 30, 20), (0, 196, 256, 256))
    found = alpha(picture)
    assert found[200:].min() == 1
    assert found[:20].max() == 0
    assert found[100:190, :40].max() == 0


@pytest.mark.slow
def test_a_large_picture_is_keyed_on_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    picture, true = render()
    large = picture.resize((1100, 1100), Image.Resampling.BICUBIC)
    monkeypatch.setattr(keying, "WORKING_PX", 512)
    found = alpha(large)
    assert found.shape == (1100, 1100)
    whole = Image.fromarray((true * 255).astype(np.uint8)).resize((1100, 1100))
    assert iou(found, np.asarray(whole) / 255) > 0.98


@pytest.mark.slow
def test_an_oblong_picture() -> None:
    picture, true = render(size=256)
    wide = Image.new("RGB", (900, 256), (235, 235, 235))
    wide.paste(picture, (600, 0))
    found = alpha(wide)
    assert found[:, :600].max() == 0
    assert iou(found[:, 600:856], true) > 0.97


def test_the_same_picture_gives_the_same_alpha() -> None:
    picture, _ = render(size=128)
    assert np.array_equal(alpha(picture), alpha(picture))


# Settings


def test_holes_stay_closed_unless_asked_for() -> None:
    picture, true = mug()
    handle = (slice(125, 145), slice(180, 205))
    assert true[handle].max() == 0
    assert alpha(picture)[handle].min() == 1
    assert alpha(picture, holes=True)[handle].max() == 0


def test_a_hole_must_match_better_than_the_background_itself() -> None:
    picture = Image.new("RGB", (120, 120), (200, 200, 200))
    picture.paste((20, 60, 200), (20, 20, 100, 100))
    picture.paste((210, 210, 210), (40, 40, 80, 80))
    assert alpha(picture, holes=True)[60, 60] == 1
    picture.paste((201, 201, 201), (40, 40, 80, 80))
    assert alpha(picture, holes=True)[60, 60] == 0


@pytest.mark.slow
def test_a_shadow_is_kept_when_asked_for() -> None:
    picture, true = render()
    assert alpha(picture, shadow=0).mean() > 1.15 * true.mean()


@pytest.mark.slow
def test_specks_go_by_their_size() -> None:
    picture, true = render(shadow=0)
    ImageDraw.Draw(picture).rectangle([20, 20, 29, 29], fill=(20, 20, 20))
    assert alpha(picture)[20:30, 20:30].max() == 0
    assert alpha(picture, min_area=0.0001)[20:30, 20:30].min() == 1
    assert iou(alpha(picture), true) > 0.99


def test_tolerance_decides_what_is_background() -> None:
    picture = Image.new("RGB", (100, 100), (200, 200, 200))
    picture.paste((185, 185, 185), (30, 30, 70, 70))
    assert alpha(picture, tolerance=2, shadow=0)[50, 50] == 1
    with pytest.raises(EmptyForeground):
        alpha(picture, tolerance=15, shadow=0)


@pytest.mark.parametrize("wrong", [{"tolerance": 0}, {"shadow": 99}, {"holes": "yes"}, {"soft": 1}])
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BorderKey.model_validate(wrong)


def test_it_needs_no_weights_and_no_device() -> None:
    provider = BorderKey()
    assert provider.missing() is None
    assert provider.weights()[1] == []
    assert not provider.needs_device
    assert isinstance(provider.load(Device("cuda:0", "float16")), Matting)


# What it refuses


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("astronaut", r"only 46% of the border fits one smooth colour"),
        ("coffee", r"only 4\d% of the border fits one smooth colour"),
        ("chelsea", r"too noisy or textured: its colour varies by 4\.\d CIELAB"),
    ],
)
def test_a_photograph_is_refused_with_a_way_out(name: str, why: str) -> None:
    photo = Image.fromarray(getattr(skimage.data, name)())
    photo.thumbnail((640, 640))
    with pytest.raises(BackgroundNotPlain, match=why) as caught:
        alpha(photo)
    failure = caught.value.failure()
    assert "use a rembg model" in failure.message
    assert "provider: rembg" in failure.hint


def test_a_share_of_nearly_enough_is_not_rounded_up_to_enough() -> None:
    picture = Image.new("RGB", (1000, 1000), WHITE)
    picture.paste((200, 40, 40), (100, 0, 893, 1000))  # 59.75 % of the border are left
    with pytest.raises(BackgroundNotPlain, match="only 59% of the border fits"):
        alpha(picture)


def test_static_is_refused() -> None:
    static = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    with pytest.raises(BackgroundNotPlain, match="border"):
        alpha(Image.fromarray(static))


def test_a_blank_picture_has_no_foreground() -> None:
    with pytest.raises(EmptyForeground, match="whole picture"):
        alpha(Image.new("RGB", (64, 48), WHITE))


def test_alpha_matting_is_not_silently_ignored() -> None:
    model = BorderKey().load(Device("cpu", "float32"))
    with pytest.raises(ParameterInvalid, match="alpha_matting"):
        model.alpha(render(size=64)[0], alpha_matting=True)
