"""The files of the redrawn picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dna_pipeline.base.errors import ParameterInvalid
from dna_pipeline.base.files import INTERMEDIATE, Artifact
from dna_pipeline.media.images import save_png
from dna_pipeline.media.picture_writer import (
    FORMATS,
    Encoding,
    FormatName,
    is_lossless,
    save_picture,
)
from dna_pipeline.stages.base import StageContext

if TYPE_CHECKING:
    from PIL import Image


def check_side(size: tuple[int, int], output: FormatName) -> None:
    """Raise `ParameterInvalid` if no file of that format can hold a picture of that size."""
    limit = FORMATS[output].max_side_px
    if max(size) > limit:
        raise ParameterInvalid(
            f"output: {output} holds at most {limit} px a side, and the picture has "
            f"{size[0]} x {size[1]}",
            hint="Set output: png.",
        )


def write(
    ctx: StageContext, picture: Image.Image, encoding: Encoding, parameters: str
) -> list[Artifact]:
    """Write the picture; the first file is the one that the next stage reads, which never has
    less in it than the picture: beside a lossy file lies a PNG that is not published."""
    facts: dict[str, Any] = {"width": picture.width, "height": picture.height}
    path = ctx.path(encoding.kind.suffix)
    ctx.warnings += save_picture(picture, path, encoding, parameters)
    image = Artifact(path, "image", encoding.kind.media_type, facts)
    if is_lossless(encoding.format, encoding.quality):
        return [image]
    whole = ctx.path(".lossless.png")
    save_png(picture, whole)
    return [Artifact(whole, INTERMEDIATE, "image/png", facts), image]
