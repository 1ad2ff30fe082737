"""Alpha channels: those that say nothing, and those that cut a subject out.

Many programs write an alpha that nobody painted: 255 but for a stray pixel, 0 everywhere, one value
everywhere. Screenshots have rounded corners, photographs soft vignettes. Two rules, one for what an
alpha channel says at all and one for whether it is a cut-out, hold for every format and stage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

LEAST_RANGE = 6
"""An alpha channel whose greatest and least value differ by less says nothing."""
TRANSPARENT = 15
"""Greatest alpha of a pixel that counts as transparent."""
LEAST_SHARE = 0.02
"""Share of a picture that must be transparent for it to count as cut out."""
LEAST_BORDER_SHARE = 0.25
"""Share of a picture's outermost pixels that must be transparent for it to count as cut out."""
DOUBTFUL_SHARE = 0.8
"""A cut-out that shows more of a picture may be none."""
DOUBTFUL_SIDE_SHARE = 0.25
"""A cut-out that shows as much of each of the four sides may be none."""


@dataclass(frozen=True, slots=True)
class Transparency:
    """How much of a picture is transparent.

    Attributes:
        share: of its pixels, 0 to 1.
        border_share: of its outermost pixels.
        least_side_shown: of the pixels of one of its sides, the one where least is shown, how much
            is not transparent.
    """

    share: float
    border_share: float
    least_side_shown: float = 1.0

    @classmethod
    def of(cls, image: Image.Image) -> Transparency:
        """Measure a picture; 0 for one without an alpha channel."""
        if image.mode != "RGBA":
            return cls(0.0, 0.0)
        clear = np.asarray(image.getchannel("A")) <= TRANSPARENT
        border = np.concatenate([clear[0], clear[-1], clear[1:-1, 0], clear[1:-1, -1]])
        sides = (clear[0], clear[-1], clear[:, 0], clear[:, -1])
        shown = min(1 - float(side.mean()) for side in sides)
        return cls(float(clear.mean()), float(border.mean()), shown)

    @property
    def is_cut_out(self) -> bool:
        """True if a subject was cut out; false for small rounded corners and mere holes."""
        return self.share >= LEAST_SHARE and self.border_share >= LEAST_BORDER_SHARE

    @property
    def is_doubtful(self) -> bool:
        """True if what is cut out looks like a picture of its own shape, as app icons are."""
        return 1 - self.share > DOUBTFUL_SHARE or self.least_side_shown >= DOUBTFUL_SIDE_SHARE


def without_idle_alpha(image: Image.Image, remarks: list[str] | None = None) -> Image.Image:
    """The picture as RGB where its alpha channel says nothing; else unchanged.

    An alpha that hardly varies shows no subject. At 250 and more it means opaque. Lower, it was
    most likely never painted, so that the colours are the picture. A transparent picture without
    any colour stays as it is: there is nothing to be seen with or without its alpha.

    Args:
        remarks: gets a sentence for the manifest unless the picture is as good as opaque.
    """
    if image.mode != "RGBA":
        return image
    alpha = np.asarray(image.getchannel("A"))
    low, high = int(alpha.min()), int(alpha.max())
    opaque = image.convert("RGB")
    if high - low >= LEAST_RANGE or (high < LEAST_RANGE and opaque.getbbox() is None):
        return image
    if remarks is not None and low + LEAST_RANGE <= 255:
        values = str(low) if low == high else f"{low} to {high}"
        remarks.append(
            f"Alpha is {values} (of 255) in the whole picture and so shows no subject; "
            "the picture was read as opaque."
        )
    return opaque
