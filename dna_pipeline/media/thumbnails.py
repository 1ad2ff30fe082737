"""Small pictures of results, for contact sheets."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from PIL import Image

from dna_pipeline.base.files import write_atomic
from dna_pipeline.media.images import load_image

SIDE_PX = 320
"""Longest side: enough for a card on a display of two pixels a point."""
SUFFIX = ".webp"
_QUALITY = 82


def make_thumbnail(source: Path, target: Path, side_px: int = SIDE_PX) -> None:
    """Write a WebP of at most that size, whole or not at all; transparency is kept.

    Raises:
        JobError: the file is no picture that can be read.
        OSError: a file cannot be read or written.
    """
    image = load_image(source)
    # Reduced by whole steps first, which is many times as fast for large pictures.
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)

    def save(file: IO[bytes]) -> None:
        image.save(file, "WEBP", quality=_QUALITY, method=2)

    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, save)
