"""JSON that any text and number of a request can stand in."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.responses import JSONResponse

from dna_pipeline.config.yaml12 import is_list, is_mapping

MOST_DEEP = 20
"""Levels of a value that an answer repeats."""


class Json(JSONResponse):
    """An answer in ASCII, since requests may hold characters that UTF-8 cannot."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def plain(value: Any, deep: int = MOST_DEEP) -> Any:
    """The value without numbers that JSON lacks, and cut off where it is too deep; null in place of
    both."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_mapping(value):
        return {key: plain(each, deep - 1) for key, each in value.items()} if deep else None
    if is_list(value):
        return [plain(each, deep - 1) for each in value] if deep else None
    return value
