"""The masks of a campaign: those beside images, and one for each inbox that tables name."""

from __future__ import annotations

import io
import json
from pathlib import PurePath
from typing import Any

from PIL import Image

NAMED = "shapes/round.mask.png"
"""Path in each inbox of a mask that many rows name. It has the name of a mask, since otherwise it
would be taken for a picture until a table names it."""


def named_mask() -> bytes:
    """The mask at `NAMED`, as a PNG."""
    file = io.BytesIO()
    Image.new("L", (16, 16), 255).save(file, "PNG")
    return file.getvalue()


def mask_name(image: str) -> str:
    """Name of the mask of an image, without its folder. The image's whole name is in it, since an
    image with the same stem may lie beside it."""
    return f"{PurePath(image).name}.mask.png"


def companions_of(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Role, name and hash of each file that came with the job's image, or that the job names."""
    raw: Any = job["stages"]
    stages: list[dict[str, Any]] = json.loads(raw) if isinstance(raw, str) else raw
    named = [value for stage in stages for value in stage.get("params", {}).values()]
    files: list[dict[str, Any]] = json.loads(job["companions"] or "null") or []
    return [file for file in files if not stages or file.get("reference") in (None, *named)]
