"""Texts that programs wrote into images: in a PNG's chunks, or in the EXIF of a JPEG or WebP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dna_pipeline.config.image_metadata import MetadataError
from dna_pipeline.intake.planning.exif_texts import exif_texts
from dna_pipeline.intake.planning.png_texts import png_texts

_UNREAD: Mapping[str, str] = {"parameters": ""}
"""Texts of an image that is not there yet: an empty prompt, so that all else can be checked."""


class ImageTexts:
    """Reads the texts of images."""

    def of(self, file: Path | None) -> Mapping[str, str]:
        """Texts of an image; an empty prompt for None. Raises `MetadataError`."""
        if file is None:
            return _UNREAD
        try:
            texts = png_texts(file)
            texts = exif_texts(file) if texts is None else texts
        except OSError as error:
            raise MetadataError(f"the image cannot be read: {error}") from None
        if texts is None:
            raise MetadataError("the image is no PNG, JPEG or WebP, and only their texts are read")
        return texts
