"""Plain scalars by the core schema of YAML 1.2 (§10.3.2)."""

from __future__ import annotations

import re
from typing import Any

from dna_pipeline.config.yaml_errors import YamlError

MAX_DIGITS = 1000

_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCT = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")
_NUMBER_START = frozenset("+-.0123456789")


def scalar(text: str, line: int = 0) -> Any:
    """The value of a plain scalar by YAML 1.2's core schema.

    Raises:
        YamlError: a number of more than `MAX_DIGITS` characters, costly to read and to print.
    """
    if text[:1] in _NUMBER_START:
        return _number(text, line)
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return text[0] in "tT"
    return text


def _number(text: str, line: int) -> Any:
    """The number, or the text if it only begins like a number."""
    bases = ((_INT, 10), (_OCT, 8), (_HEX, 16))
    base = next((base for pattern, base in bases if pattern.fullmatch(text)), None)
    if base is None and not _FLOAT.fullmatch(text):
        return _not_finite(text)
    if len(text) > MAX_DIGITS:
        raise YamlError(f"a number of more than {MAX_DIGITS:,} digits", line)
    if base is None:
        return float(text)
    return int(text if base == 10 else text[2:], base)


def _not_finite(text: str) -> Any:
    if match := _INF.fullmatch(text):
        return float(f"{match[1]}inf")
    return float("nan") if _NAN.fullmatch(text) else text
