"""Fields in templates of messages: `{line}`, and `{{` for a brace."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dna_pipeline.config.sentences import nearest
from dna_pipeline.config.yaml12 import is_list, is_mapping

FIELDS = (
    "line", "type", "id", "time", "inbox", "name", "pipeline", "job", "batch", "folder", "sheet",
    "code", "detail", "completed", "failed", "cancelled", "seconds",
)  # fmt: skip
"""Names of all fields. One that a message has no value for is empty."""

_PARTS = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def problem_of(template: str) -> str | None:
    """Say what is wrong with a template; None if nothing is."""
    for part in _PARTS.finditer(template):
        name = part[1]
        if name is not None and name not in FIELDS:
            return f"unknown field '{{{name}}}'; {nearest(name, FIELDS)}"
        if part[0] in ("{", "}"):
            return f"a single {part[0]!r}; write {part[0] * 2!r} for the sign itself"
    return None


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put the values in the place of their fields."""

    def replacement(part: re.Match[str]) -> str:
        return part[0][0] if part[1] is None else values.get(part[1], "")

    return _PARTS.sub(replacement, template)


def fill_all(template: Any, values: Mapping[str, str]) -> Any:
    """Fill all texts of a mapping or a list, but for the keys; other values stay as they are."""
    if isinstance(template, str):
        return fill(template, values)
    if is_mapping(template):
        return {key: fill_all(item, values) for key, item in template.items()}
    if is_list(template):
        return [fill_all(item, values) for item in template]
    return template
