"""The picture of a job's result, and the texts in a picture."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from dna_pipeline.config.image_metadata import USER_COMMENT, labels_of_a1111
from dna_pipeline.intake.planning.exif_texts import texts_in_exif
from dna_pipeline.intake.planning.png_texts import texts_in_png

PARAMETERS = "parameters"
"""Key of the text that says how a picture was made, as AUTOMATIC1111's web UI writes it."""

_PICTURES = ("image", "matte")
"""Roles of artifacts that are the picture of a result."""


def picture_path(job: Mapping[str, Any]) -> str:
    """Path, in the job's folder, of the picture that its last stage made; "" if none made one.

    Args:
        job: as `Queries.job` gives it.
    """
    paths = [row["path"] for row in job["artifacts"] if row["role"] in _PICTURES]
    return paths[-1] if paths else ""


def texts_in(data: bytes) -> dict[str, str]:
    """The texts of a PNG by their keywords, and the comment of a JPEG or WebP as `parameters`.

    None are found in other files, and in damaged ones.
    """
    texts = texts_in_png(BytesIO(data))
    if texts is None:
        texts = texts_in_exif(BytesIO(data)) or {}
    if USER_COMMENT in texts:
        texts = {PARAMETERS: texts.pop(USER_COMMENT), **texts}
    return texts


def labels_in(text: str) -> dict[str, str]:
    """The values of a text `parameters`, by their labels."""
    return labels_of_a1111(text) if text.strip() else {}
