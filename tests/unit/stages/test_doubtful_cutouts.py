"""Transparency that counts as a cut-out although it may only be the picture's shape."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from dna_pipeline.media.alpha import Transparency
from dna_pipeline.providers.base import Device, ModelCache
from dna_pipeline.stages.base import StageContext
from dna_pipeline.stages.remove_background import RemoveBackground


def rounded(radius: float) -> Image.Image:
    image = Image.new("RGBA", (256, 256))
    ImageDraw.Draw(image).rounded_rectangle((0, 0, 255, 255), radius * 256, fill="navy")
    return image


def shape(*box: int, size: int = 256) -> Image.Image:
    image = Image.new("RGBA", (size, size))
    ImageDraw.Draw(image).ellipse(box, fill="navy")
    return image


@pytest.mark.parametrize(
    ("image", "is_cut_out", "is_doubtful"),
    [
        (rounded(0.22), True, True),
        (rounded(0.3), True, True),
        (rounded(0.04), False, True),
        (shape(0, 0, 255, 255), True, False),
        (shape(40, 20, 200, 255), True, False),
        (shape(-30, -30, 285, 285), True, True),
        (Image.new("RGB", (64, 64)), False, True),
    ],
    ids=["icon", "rounder icon", "window", "trimmed", "bust", "vignette", "opaque"],
)
def test_doubtful(image: Image.Image, is_cut_out: bool, is_doubtful: bool) -> None:
    transparency = Transparency.of(image)
    assert (transparency.is_cut_out, transparency.is_doubtful) == (is_cut_out, is_doubtful)


@pytest.mark.parametrize(("radius", "count"), [(0.22, 1), (0.5, 0)])
def test_the_stage_warns_of_an_icon_and_not_of_a_disc(
    radius: float, count: int, tmp_path: Path
) -> None:
    rounded(radius).save(source := tmp_path / "icon.png")
    ctx = StageContext(
        stage_id="remove_background",
        stem="icon",
        source=source,
        work_dir=tmp_path,
        models=ModelCache({}, Device("cpu", "float32")),
        on_step=lambda step, steps: None,
    )
    RemoveBackground(model="none", force=False, alpha_matting=False).run(ctx)
    said = [text for text in ctx.warnings if "`force: true` cuts again" in text]
    assert len(said) == len(ctx.warnings) == count
