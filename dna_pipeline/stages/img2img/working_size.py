"""Sizes at which a model works on a picture that keeps its own size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dna_pipeline.providers.stable_diffusion.tiles import LATENT_PX
from dna_pipeline.stages.img2img.sizes import MIN_SIDE_PX

if TYPE_CHECKING:
    from PIL import Image

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, slots=True)
class WorkingSize:
    """The way of a picture to the model and back.

        source ── scaled down to `max_size` ──► scaled ── mirrored at its edges ──► padded
               ◄─────── scaled up ──────────────       ◄──── cropped ──────────────

    Attributes:
        source: the picture's own size, which the result has too.
        scaled: its size before the margin is added; that of the source unless this is too large.
        padded: what the model sees; multiples of 8 of at least 64.
    """

    source: Size
    scaled: Size
    padded: Size

    @classmethod
    def of(cls, source: Size, max_size: int) -> WorkingSize:
        """The way of a picture of that size.

        Args:
            max_size: longest side that the model works on, in pixels, without the margin.
        """
        longer = max(source)
        limit = min(longer, max_size)
        width, height = (max(round(side * limit / longer), 1) for side in source)
        padded = (_padded(width), _padded(height))
        return cls(source, (width, height), padded)

    def redrawn(
        self, draw: Callable[..., Image.Image], picture: Image.Image, mask: Image.Image | None
    ) -> Image.Image:
        """The result of `draw` for a picture, and a mask if there is one, of the source's size, at
        that size."""
        masks = [] if mask is None else [self.enter_mask(mask)]
        return self.leave(draw(self.enter(picture), *masks))

    def enter_mask(self, mask: Image.Image) -> Image.Image:
        """As `enter`, for a mask, of which no white is lost."""
        from dna_pipeline.media.repaint_mask import brightest

        return _mirrored(brightest(mask, self.scaled), self.padded)

    def enter(self, picture: Image.Image) -> Image.Image:
        """The picture (RGB or RGBA) as the model sees it.

        The margin on the right and at the bottom mirrors what is beside it, so that the model sees
        no edge that is not in the picture.
        """
        from dna_pipeline.media.flat import resized

        return _mirrored(resized(picture, self.scaled), self.padded)

    def leave(self, drawn: Image.Image) -> Image.Image:
        """The model's picture, at the size of the source."""
        from dna_pipeline.media.flat import resized

        return resized(drawn.crop((0, 0, *self.scaled)), self.source)

    def remarks(self, max_size: int) -> list[str]:
        """A sentence for the manifest if the model worked on a smaller picture."""
        if self.scaled == self.source:
            return []
        before, work = (f"{width} x {height} px" for width, height in (self.source, self.scaled))
        return [
            f"The picture of {before} was redrawn at {work} and brought back to its own size: "
            f"max_size is {max_size}."
        ]


def _padded(side: int) -> int:
    return max(-(-side // LATENT_PX) * LATENT_PX, MIN_SIDE_PX)


def _mirrored(picture: Image.Image, size: Size) -> Image.Image:
    import numpy as np
    from PIL import Image

    if size == picture.size:
        return picture
    pixels = np.asarray(picture)
    margins = [(0, size[1] - picture.height), (0, size[0] - picture.width)]
    margins += [(0, 0)] * (pixels.ndim - 2)
    return Image.fromarray(np.pad(pixels, margins, mode="symmetric"))
