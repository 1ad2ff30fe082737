"""Repaints a part of a picture: which part the model sees, and how its result is put back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageChops

from dna_pipeline.base.errors import MaskMismatch
from dna_pipeline.media import repaint_mask
from dna_pipeline.media.flat import flattened, resized
from dna_pipeline.media.matte import cut_out
from dna_pipeline.media.repaint_mask import Box, MaskEdit
from dna_pipeline.stages.img2img import mask_shape

Draw = Callable[[Image.Image, Image.Image], Image.Image]
"""Redraws a picture (RGB) where a mask of the same size is at least half white."""

NOTHING_TO_REPAINT = "The mask has no white in it, so nothing was repainted."
TOO_FAINT = "The mask is nowhere half white, so the model was asked to redraw nothing."
ALL_REPAINTED = "The mask is wholly white, so the whole picture was repainted."
NO_TRANSPARENCY = (
    "The input has no transparency, which mask: alpha would repaint, so nothing was repainted."
)


def scaling_remarks(mask: Image.Image, picture: Image.Image) -> list[str]:
    """Remarks on the scaling of a mask to the size of its picture.

    Raises `MaskMismatch` if the two differ in shape; see `mask_shape.mismatch`.
    """
    if mask.size == picture.size:
        return []
    if (text := mask_shape.mismatch(mask.size, picture.size)) is not None:
        raise MaskMismatch(text)
    sizes = [mask_shape.in_words(one.size) for one in (mask, picture)]
    return [f"The mask of {sizes[0]} was scaled to the size of the picture, {sizes[1]}."]


@dataclass(frozen=True, slots=True)
class Masks:
    """The masks of a picture, of its size.

    Attributes:
        blend: how much of what was redrawn is laid over the picture, soft at its edges.
        redrawn: what the model redraws; `blend` and what was white before the blur, which leaves
            little of thin parts.
    """

    blend: Image.Image
    redrawn: Image.Image


@dataclass(frozen=True, slots=True)
class Repaint:
    """How a picture is repainted.

    Attributes:
        edit: changes of the mask.
        fills: True if what is transparent is repainted, so that the result is opaque.
        alpha: for other results, what becomes of the input's transparency.
    """

    edit: MaskEdit
    fills: bool
    alpha: Literal["keep", "white"]

    def masks(self, picture: Image.Image, raw_mask: Image.Image) -> Masks:
        """The masks for a picture, with all changes."""
        sharp = self.edit.sharp(resized(raw_mask, picture.size))
        blend = self.edit.blurred(sharp)
        if self.fills:
            # A transparent pixel has no colour to keep, so no change of the mask may spare it.
            blend = ImageChops.lighter(blend, repaint_mask.transparency_of(picture))
        return Masks(blend, ImageChops.lighter(blend, sharp))

    def run(
        self, picture: Image.Image, masks: Masks, box: Box, size: tuple[int, int], draw: Draw
    ) -> Image.Image:
        """The picture with a part of it repainted; what the mask leaves black keeps its bytes.

        Args:
            picture: RGB or RGBA.
            masks: as `masks` gives them.
            box: the part that the model sees.
            size: width and height at which the model sees it.
        """
        view = flattened(picture)
        part = resized(view.crop(box), size)
        drawn = draw(part, repaint_mask.brightest(masks.redrawn.crop(box), size))
        view.paste(resized(drawn, (box[2] - box[0], box[3] - box[1])), box[:2])
        return self._put_back(view, picture, masks.blend)

    def unchanged(self, picture: Image.Image) -> Image.Image:
        """The result where nothing is to be repainted."""
        return picture if self.alpha == "keep" else flattened(picture)

    def _put_back(self, drawn: Image.Image, picture: Image.Image, mask: Image.Image) -> Image.Image:
        if picture.mode != "RGBA":
            return repaint_mask.laid_over(drawn, picture, mask)
        if self.fills:
            return repaint_mask.laid_over(drawn, picture.convert("RGB"), mask)
        if self.alpha == "white":
            return repaint_mask.laid_over(drawn, flattened(picture), mask)
        drawn = cut_out(drawn, picture.getchannel("A"))
        return repaint_mask.laid_over(drawn, picture, mask)
