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


@dataclass(frozen=True, slots=True)
class Transparency:
    """Shares, 0 to 1, of a picture's pixels and of its outermost ones that are transparent."""

    share: float
    border_share: float

    @classmethod
    def of(cls, image: Image.Image) -> Transparency:
        """Measure a picture; 0 for one without an alpha channel."""
        if image.mode != "RGBA":
            return cls(0.0, 0.0)
        clear = np.asarray(image.getchannel("A")) <= TRANSPARENT
        border = np.concatenate([clear[0], clear[-1], clear[1:-1, 0], clear[1:-1, -1]])
        return cls(float(clear.mean()), float(border.mean()))

    @property
    def is_cut_out(self) -> bool:
        """True if a subject was cut out; false for rounded corners, vignettes and mere holes."""
        return self.share >= LEAST_SHARE and self.border_share >= LEAST_BORDER_SHARE


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
