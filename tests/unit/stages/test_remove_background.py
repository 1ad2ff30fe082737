"""The stage with real models of both providers' kind and real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from PIL import Image, ImageDraw

from dna_pipeline.base.errors import Cancelled, EmptyForeground, ImageUnreadable
from dna_pipeline.media.images import load_image
from dna_pipeline.providers.base import Device, ModelCache, Provider
from dna_pipeline.providers.matting.border_key import BorderKey
from dna_pipeline.stages.base import StageContext
from dna_pipeline.stages.registry import provider_class, stage_class
from dna_pipeline.stages.remove_background import RemoveBackground

BOX = (60, 40, 180, 140)


class Fixed(Provider):
    """Gives the alpha that it is told to, and keeps what it was shown."""

    name_in_config = "fixed"
    stages = frozenset({"remove_background"})

    value: int = 255

    def missing(self) -> None:
        return None

    def weights(self) -> tuple[Path, list[Path]]:
        return Path("fixed"), []

    def load(self, device: Device) -> Any:
        value, shown = self.value, []

        class Matte:
            calls = shown

            def alpha(self, image: Image.Image, *, alpha_matting: bool) -> Image.Image:
                shown.append((image.copy(), alpha_matting))
                return Image.new("L", image.size, value)

        return Matte()


def context(tmp_path: Path, image: Image.Image, **models: Provider) -> StageContext:
    source = tmp_path / "cat.png"
    image.save(source)
    (tmp_path / "work").mkdir(exist_ok=True)
    return StageContext(
        stage_id="remove_background",
        stem="cat",
        source=source,
        work_dir=tmp_path / "work",
        models=ModelCache({"key": BorderKey(), **models}, Device("cpu", "float32")),
        on_step=lambda step, steps: None,
    )


def boxed(mode: str = "RGB") -> Image.Image:
    """A blue box with soft edges on white, or on nothing."""
    large = Image.new(mode, (960, 720), (255, 255, 255, 0)[: len(mode)])
    box = tuple(4 * edge + 2 for edge in BOX)
    ImageDraw.Draw(large).rectangle(box, fill=(20, 60, 200, 255)[: len(mode)])
    return large.resize((240, 180), Image.Resampling.BOX)


def test_it_is_registered() -> None:
    assert stage_class("remove_background") is RemoveBackground
    for name in ("border_key", "rembg"):
        assert provider_class(name).name_in_config == name
        assert RemoveBackground.type in provider_class(name).stages


def test_writes_the_matte(tmp_path: Path) -> None:
    ctx = context(tmp_path, boxed())
    (matte,) = RemoveBackground(model="key").run(ctx)
    assert matte.path == tmp_path / "work" / "cat.matte.png"
    assert (matte.role, matte.media_type) == ("matte", "image/png")
    assert matte.facts == {
        "foreground_fraction": pytest.approx(120.25 * 100.25 / (240 * 180), rel=0.005),
        "already_cut": False,
        "width": 240,
        "height": 180,
    }
    image = load_image(matte.path)
    assert image.mode == "RGBA"
    assert image.getpixel((120, 90)) == (20, 60, 200, 255)
    assert image.getpixel((5, 5)) == (0, 0, 0, 0)
    assert ctx.warnings == []
    assert [p.name for p in ctx.work_dir.iterdir()] == ["cat.matte.png"]


def test_no_background_colour_is_left_on_the_edge(tmp_path: Path) -> None:
    (matte,) = RemoveBackground(model="key").run(context(tmp_path, boxed()))
    pixels = np.asarray(load_image(matte.path)).astype(int)
    soft = (pixels[..., 3] > 20) & (pixels[..., 3] < 250)
    assert soft.sum() > 200
    off = np.abs(pixels[soft][:, :3] - (20, 60, 200)).max(axis=1)
    spill = np.abs(np.asarray(boxed()).astype(int)[soft] - (20, 60, 200)).max(axis=1)
    assert off.mean() < 0.45 * spill.mean()


def test_what_is_transparent_already_is_left_alone(tmp_path: Path) -> None:
    ctx = context(tmp_path, boxed("RGBA"))
    (matte,) = RemoveBackground(model="no such model").run(ctx)
    assert load_image(matte.path) == load_image(ctx.source)
    assert matte.facts["already_cut"] is True
    assert ctx.warnings == []


def test_force_cuts_within_what_shows(tmp_path: Path) -> None:
    cut = boxed("RGBA")
    ctx = context(tmp_path, cut, all=Fixed())
    (matte,) = RemoveBackground(model="all", force=True, alpha_matting=True).run(ctx)
    assert load_image(matte.path).getchannel("A") == cut.getchannel("A")
    shown, alpha_matting = ctx.models.get("all").calls[0]
    assert shown.mode == "RGB"
    assert shown.getpixel((5, 5)) == (127, 127, 127)
    assert shown.getpixel((120, 90)) == (20, 60, 200)
    assert alpha_matting is True


def test_force_with_the_keyer(tmp_path: Path) -> None:
    ctx = context(tmp_path, boxed("RGBA"))
    (matte,) = RemoveBackground(model="key", force=True).run(ctx)
    assert matte.facts["foreground_fraction"] == pytest.approx(
        120.25 * 100.25 / (240 * 180), rel=0.005
    )
    assert matte.facts["already_cut"] is False


def test_an_opaque_alpha_channel_is_no_transparency(tmp_path: Path) -> None:
    picture = boxed()
    picture.putalpha(255)
    (matte,) = RemoveBackground(model="key").run(context(tmp_path, picture))
    assert matte.facts["already_cut"] is False
    assert matte.facts["foreground_fraction"] < 0.4


ALPHAS = {
    "rounded corners": lambda pen: pen.rounded_rectangle([0, 0, 239, 179], 12, fill=255),
    "a hole in the subject": lambda pen: (
        pen.rectangle([0, 0, 239, 179], fill=255), pen.ellipse([100, 70, 140, 110], fill=0)
    ),
    "a hole beside it": lambda pen: (
        pen.rectangle([0, 0, 239, 179], fill=255), pen.rectangle([5, 5, 40, 80], fill=0)
    ),
    "one edge": lambda pen: pen.rectangle([0, 3, 239, 179], fill=255),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("shape", ALPHAS.values(), ids=ALPHAS.keys())
@pytest.mark.parametrize("backdrop", [(255, 255, 255), (30, 32, 34), (40, 180, 70)])
def test_a_picture_that_merely_has_some_transparency_is_cut(
    tmp_path: Path, shape: Callable[[ImageDraw.ImageDraw], object], backdrop: tuple[int, int, int]
) -> None:
    """What lies under the transparent pixels is black, which is no backdrop's colour."""
    picture, shown = Image.new("RGBA", (240, 180), backdrop), Image.new("L", (240, 180))
    picture.paste((210, 60, 200), BOX)
    shape(ImageDraw.Draw(shown))
    picture.putalpha(shown)
    ctx = context(
        tmp_path, Image.composite(picture, Image.new("RGBA", picture.size, (0, 0, 0, 0)), shown)
    )
    (matte,) = RemoveBackground(model="key").run(ctx)
    expected = np.zeros((180, 240), np.uint8)
    expected[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    expected = np.minimum(expected, np.asarray(shown))
    pixels = np.asarray(load_image(matte.path))
    assert np.abs(pixels[..., 3].astype(int) - expected).max() <= 1
    assert (pixels[expected == 255][:, :3] == (210, 60, 200)).all()
    assert matte.facts["already_cut"] is False
    (warning,) = ctx.warnings
    assert "no cut-out" in warning
    assert "2% and 25%" in warning


def test_a_soft_vignette_is_cut_and_stays_soft(tmp_path: Path) -> None:
    y, x = np.mgrid[-1:1:180j, -1:1:240j]
    vignette = (255 * (1 - 0.35 * (x * x + y * y))).astype(np.uint8)
    picture = Image.new("RGBA", (240, 180), (250, 250, 250))
    picture.paste((20, 60, 200), BOX)
    picture.putalpha(Image.fromarray(vignette))
    (matte,) = RemoveBackground(model="key").run(context(tmp_path, picture))
    alpha = np.asarray(load_image(matte.path).getchannel("A"))
    assert (alpha <= vignette).all()
    assert (alpha[45:135, 65:175] == vignette[45:135, 65:175]).all()
    assert alpha[:35].max() == 0


def test_a_stray_pixel_of_alpha_is_no_cut_out(tmp_path: Path) -> None:
    for value in (254, 200):
        picture = boxed().convert("RGBA")
        picture.putpixel((3, 3), (255, 255, 255, value))
        (matte,) = RemoveBackground(model="key").run(context(tmp_path, picture))
        assert matte.facts["already_cut"] is False
        assert matte.facts["foreground_fraction"] < 0.4


def test_a_large_picture_is_filled_from_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dna_pipeline.media.matte.FILL_PX", 64)
    picture = boxed().convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 60, 5))
    ctx = context(tmp_path, picture, all=Fixed())
    RemoveBackground(model="all").run(ctx)
    ((shown, _),) = ctx.models.get("all").calls
    assert shown.size == (240, 180)
    assert np.abs(np.asarray(shown).astype(int) - np.asarray(boxed()).astype(int)).max() <= 2


def test_a_subject_that_touches_three_borders_stays_cut_out(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (240, 180))
    picture.paste((20, 60, 200), (70, 0, 240, 180))
    ctx = context(tmp_path, picture)
    (matte,) = RemoveBackground(model="no such model").run(ctx)
    assert matte.facts["already_cut"] is True
    assert load_image(matte.path) == picture


def test_a_cut_of_nothing_is_told_of_a_picture_with_corners(tmp_path: Path) -> None:
    picture = boxed().convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 8, 8))
    ctx = context(tmp_path, picture, all=Fixed())
    RemoveBackground(model="all").run(ctx)
    assert "nothing was removed" in ctx.warnings[-1]


def test_an_empty_matte_fails_and_leaves_no_file(tmp_path: Path) -> None:
    ctx = context(tmp_path, boxed(), none=Fixed(value=0))
    with pytest.raises(EmptyForeground, match=r"0\.000%"):
        RemoveBackground(model="none").run(ctx)
    assert list(ctx.work_dir.iterdir()) == []


def test_a_fully_transparent_image_fails(tmp_path: Path) -> None:
    ctx = context(tmp_path, Image.new("RGBA", (40, 40)))
    with pytest.raises(EmptyForeground):
        RemoveBackground(model="key").run(ctx)


def test_a_matte_that_removes_nothing_is_told(tmp_path: Path) -> None:
    ctx = context(tmp_path, boxed(), all=Fixed())
    RemoveBackground(model="all").run(ctx)
    assert ctx.warnings == ["The whole image was taken for the subject; nothing was removed."]


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    ctx = context(tmp_path, boxed())
    ctx.source.write_text("not a picture")
    with pytest.raises(ImageUnreadable):
        RemoveBackground(model="key").run(ctx)


def test_cancelling_leaves_no_file(tmp_path: Path) -> None:
    def stop(step: int, steps: int) -> None:
        raise Cancelled

    ctx = context(tmp_path, boxed())
    ctx.on_step = stop
    with pytest.raises(Cancelled):
        RemoveBackground(model="key").run(ctx)
    assert list(ctx.work_dir.iterdir()) == []


def test_it_counts_to_its_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    ctx = context(tmp_path, boxed())
    ctx.on_step = lambda step, steps: seen.append((step, steps))
    RemoveBackground(model="key").run(ctx)
    assert seen == [(1, 1)]


@pytest.mark.parametrize("rows", [35, 41])  # a strip begins or ends on a soft edge of the box
def test_strips_meet_without_a_seam(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (matte,) = RemoveBackground(model="key").run(context(tmp_path, boxed()))
    whole = matte.path.read_bytes()
    monkeypatch.setattr("dna_pipeline.media.matte.STRIP_PX", rows)
    (matte,) = RemoveBackground(model="key").run(context(tmp_path, boxed()))
    assert matte.path.read_bytes() == whole


def test_a_render_is_cut_out_by_its_own_alpha_and_said_to_be_one(tmp_path: Path) -> None:
    ctx = context(tmp_path, boxed())
    ctx.source = tmp_path / "cat.exr"
    alpha = np.zeros((48, 64), np.float32)
    alpha[10:30, 20:40] = 1
    half = {"A": alpha, "R": alpha * 0.5, "G": alpha * 0, "B": alpha * 1}
    layers = {f"ViewLayer.Combined.{name}": plane for name, plane in half.items()}
    OpenEXR.File({"type": OpenEXR.scanlineimage}, layers).write(str(ctx.source))
    (matte,) = RemoveBackground(model="key").run(ctx)
    image = load_image(matte.path)
    assert image.getpixel((25, 15)) == (188, 0, 255, 255)
    assert image.getpixel((5, 5)) == (0, 0, 0, 0)
    assert matte.facts["already_cut"] is True
    assert [warning for warning in ctx.warnings if '"ViewLayer.Combined"' in warning]
