"""Cuts a subject from a plain background by its colour: for renders and product shots.

No weights and no network. A busy background is recognised and refused. Where part of it may have
been kept all the same, `key_review.py` notices and a warning says so.
`keying.py` has the method; it is apart so that reading pipeline.yaml loads no numpy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from dna_pipeline.providers.base import Device, Provider

if TYPE_CHECKING:
    from dna_pipeline.providers.matting.keying import BorderKeyer


class BorderKey(Provider):
    """A colour keyer. Its edges are always soft; `alpha_matting` is not for it."""

    name_in_config: ClassVar[str] = "border_key"
    stages: ClassVar[frozenset[str]] = frozenset({"remove_background"})
    needs_device: ClassVar[bool] = False

    tolerance: float = Field(
        6.0, ge=1, le=50, description="how far a colour may be from the background, CIELAB units"
    )
    shadow: float = Field(
        35.0, ge=0, le=80, description="how much darker a soft shadow may be, L* units; 0: kept"
    )
    holes: bool = Field(
        False, description="also remove background that shows through holes in the subject"
    )
    min_area: float = Field(
        0.0005, ge=0, lt=1, description="parts smaller than this share of the picture are specks"
    )

    def missing(self) -> None:
        return None

    def weights(self) -> tuple[Path, list[Path]]:
        return Path(self.name_in_config), []

    def load(self, device: Device) -> BorderKeyer:
        from dna_pipeline.providers.matting.keying import BorderKeyer

        return BorderKeyer(self)
