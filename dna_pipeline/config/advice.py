"""How to write a value that was written in a way that people know from elsewhere.

Decimal commas, percent, units, `yes`, quotes around numbers: each is refused, since a guess could
make a wrong picture, and each is answered with the value to write.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from unicodedata import normalize

from dna_pipeline.config.yaml12 import is_list, is_mapping
from dna_pipeline.config.yaml_slips import in_quotes, quote_it, with_point

_YES = frozenset({"yes", "y", "on", "true", "1", "enabled"})
_NO = frozenset({"no", "n", "off", "false", "0", "disabled", "none"})
_NUMBER = r"[-+]?(?:[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})"
_AMOUNT = re.compile(rf"({_NUMBER})\s*(%|[A-Za-z]{{1,9}}|)")
_FRACTION = re.compile(r"([0-9]{1,9})\s*/\s*([0-9]{1,9})")
_UNITS = frozenset(
    {"px", "pixel", "pixels", "s", "sec", "secs", "second", "seconds", "fps", "step", "steps"}
    | {"face", "faces", "views", "x", "f"}
)
"""Words after a number that say what it counts anyway."""
_THOUSANDS = {"k": 1000, "K": 1000}


def for_text(value: Any) -> str:
    """For a value in place of text: `put it in quotes`, with the text where it can be told."""
    if isinstance(value, bool):
        return ""
    if isinstance(value, int | float):
        return "put it in quotes"
    if is_mapping(value) and value and all(item is None for item in value.values()):
        return quote_it("{" + ", ".join(value) + "}", what="it")
    if is_list(value) and value and all(isinstance(item, str | int | float) for item in value):
        return quote_it("[" + ", ".join(map(str, value)) + "]", what="it")
    return "put text with braces or brackets in quotes" if isinstance(value, dict | list) else ""


def for_switch(value: Any) -> str:
    """For a value in place of `true` or `false`."""
    word = str(value).strip().casefold() if isinstance(value, str | int) else ""
    if word in _YES | _NO:
        right = "true" if word in _YES else "false"
        return f"write {right} without quotes" if value == right else f"write {right}"
    return ""


def for_list(value: Any) -> str:
    """For a single value, or several in one text, in place of a list."""
    if isinstance(value, bool | dict | list) or value is None:
        return ""
    items = [item.strip() for item in re.split("[,;]", str(value)) if item.strip()]
    written = ", ".join(_item(item) for item in items)
    return f"write [{written}]" if items and len(written) <= 60 else "put it in brackets: [a, b]"


def _item(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z_][\w ./-]*", text) else in_quotes(text)


def for_number(value: Any, limits: Collection[float], *, whole: bool) -> str:
    """For a value in place of a number.

    Args:
        limits: the greatest value allowed, if there is one; percents are told below 1 only.
        whole: a whole number is wanted.
    """
    if isinstance(value, bool):
        return ""
    if isinstance(value, float):
        is_whole = value.is_integer() and abs(value) < 1e15
        return f"write {int(value)}" if whole and is_whole else ""
    if not isinstance(value, str):
        return ""
    text = normalize("NFKC", value).strip()
    if advice := with_point(text):
        return _whole(text) if whole else advice
    if (found := _FRACTION.fullmatch(text)) and not whole and int(found[2]):
        return f"write {_short(int(found[1]) / int(found[2]))}"
    if found := _AMOUNT.fullmatch(text):
        return _amount(float(found[1]), found[2], limits, whole=whole)
    return ""


def _whole(text: str) -> str:
    plain = text.replace(",", "")
    return (
        f"write {plain}"
        if re.fullmatch(r"[-+]?[1-9][0-9]{0,2}(,[0-9]{3})+", text)
        else ("write a whole number")
    )


def _amount(number: float, unit: str, limits: Collection[float], *, whole: bool) -> str:
    if unit == "%":
        if whole or any(limit < number / 100 for limit in limits):
            return "write the number that the percent stand for"
        return f"write {_short(number / 100)}"
    number *= _THOUSANDS.get(unit, 1)
    if whole and number != int(number):
        return "write a whole number"
    if not unit:
        return f"write {_short(number)}, in plain digits and without quotes"
    if unit.casefold() in _UNITS or unit in _THOUSANDS:
        return f"write {_short(number)}"
    return "write the number alone, without a unit"


def over_one(value: Any, limits: Collection[float]) -> str:
    """For 60 where at most 1 is allowed: it was meant as percent."""
    if limits and max(limits) == 1 and isinstance(value, int | float) and 5 <= value <= 100:
        return f"for {_short(value)} % write {_short(value / 100)}"
    return ""


def _short(number: float) -> str:
    return f"{number:.10g}" if abs(number) < 1e10 else str(int(number))
