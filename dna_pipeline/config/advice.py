"""Advice for values that are written as in other programs or languages.

Decimal commas, percent, units, `yes`, quotes around numbers: each is refused, since a wrong guess
would make a wrong picture, and each message names the value to write. Each function returns a
clause for the message about the value, or "" if it has no advice.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any
from unicodedata import normalize

from dna_pipeline.config.dates import possible_dates
from dna_pipeline.config.yaml12 import is_list, is_mapping
from dna_pipeline.config.yaml_slips import in_list, in_quotes, quote_it, with_point

YES = frozenset({"yes", "y", "on", "true", "1", "enabled"})
NO = frozenset({"no", "n", "off", "false", "0", "disabled", "none"})
_NUMBER = r"[-+]?(?:[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})"
_AMOUNT = rf"({_NUMBER})\s*(%|[A-Za-z]{{1,9}}|)"
_FRACTION = r"([0-9]{1,9})\s*/\s*([0-9]{1,9})"
_UNITS = frozenset(
    {"px", "pixel", "pixels", "s", "sec", "secs", "second", "seconds", "fps", "step", "steps"}
    | {"face", "faces", "views", "x", "f"}
)
"""Units that are already clear from the parameter, so the number without them is right."""
_THOUSANDS = {"k": 1000, "K": 1000}


_END = re.compile(r"(.*?)\s*(;|,|//.*)", re.DOTALL)
"""A value and the `;`, `,` or `// comment` that programmers put after it."""
_NAMES = frozenset({"pipeline", "model"})
"""Keys whose text is one name."""


def for_text(value: Any, key: str = "") -> str:
    """Advice for another value in place of text: `put it in quotes`, with the text if it is clear.

    Args:
        key: the key that has the value.
    """
    if isinstance(value, bool):
        return ""
    if isinstance(value, int | float):
        return "put it in quotes"
    if is_mapping(value) and value and all(item is None for item in value.values()):
        return quote_it("{" + ", ".join(value) + "}", what="it")
    if is_list(value) and value and all(_is_written(item) for item in value):
        return _for_one_text([str(item) for item in value], key)
    return "put text with braces or brackets in quotes" if isinstance(value, dict | list) else ""


def _is_written(item: object) -> bool:
    return isinstance(item, str | int | float) and not isinstance(item, bool)


def _for_one_text(items: list[str], key: str) -> str:
    """Advice for a list in place of one text: brackets or dashes turned the text into a list."""
    if key == "image" and len(items) > 1:
        listed = in_list(items, of_text=True)
        return f"several images are named by images: {listed}" if listed else "write images:"
    one = in_list(items[:1], of_text=True)[1:-1]
    if key in _NAMES and len(items) > 1:
        return f"it takes one name alone{': write ' if one else ''}{one}"
    if len(items) == 1 and one:
        return f"write {one} without brackets or a dash"
    return f"{quote_it(', '.join(items), what='it')}, without brackets or dashes"


def for_time(text: object) -> str:
    """Advice for a date in another form than that of RFC 3339."""
    dates = possible_dates(text.strip()) if isinstance(text, str) else []
    return f"write {' or '.join(dates)}" if dates else ""


def for_matrix(value: Any) -> str:
    """Advice for a value of `matrix` that is no mapping."""
    return "" if is_mapping(value) else "write it like matrix: {img2img.strength: [0.4, 0.6]}"


def for_values(value: Any, key: str) -> str:
    """Advice for a parameter's values in `matrix` that are no list.

    Args:
        key: the key of `matrix` that has the value.
    """
    if not is_mapping(value) or not value:
        return for_list(value, of_text=False)
    entries = [_entry(f"{key}.{name}", item) for name, item in value.items()]
    if all(entries) and len(entries) <= _MOST_ENTRIES:
        return f"write {' and '.join(entries)}"
    return "write each parameter like img2img.strength: [0.4, 0.6]"


_MOST_ENTRIES = 3


def _entry(key: str, value: Any) -> str:
    """A parameter with its values in the form of `matrix`; "" if the values are unclear."""
    items = value if is_list(value) else [value]
    if not items or not all(_is_written(item) for item in items):
        return ""
    texts = [in_quotes(i) if isinstance(i, str) else str(i) for i in items]
    return f"`{key}: [{', '.join(texts)}]`" if all(texts) else ""


def for_switch(value: Any) -> str:
    """Advice for another value in place of `true` or `false`."""
    text = without_end(value)[0] if isinstance(value, str) else str(value)
    word = text.strip().casefold() if isinstance(value, str | int) else ""
    if word in YES | NO:
        right = "true" if word in YES else "false"
        return f"write {right} without quotes" if value == right else f"write {right}"
    return ""


def for_choice(value: Any, choices: list[str]) -> str:
    """Advice for `yes` or `no` in place of `false` or one of these words."""
    advice = for_switch(value)
    return f"write {choices[0]}" if choices and advice.startswith("write true") else advice


def without_end(text: str) -> tuple[str, str]:
    """A value without the `;`, `,` or `// comment` after it, and the advice to leave that out."""
    match = _END.fullmatch(text.strip())
    if match is None or not match[1]:
        return text, ""
    is_comment = match[2].startswith("//")
    return match[1], "a comment begins with #" if is_comment else f"leave out the `{match[2]}`"


def for_list(value: Any, *, of_text: bool = True) -> str:
    """Advice for a single value, or several values in one text, in place of a list.

    Args:
        of_text: True if the list holds text, so that a number needs quotes.
    """
    if isinstance(value, bool) and not of_text:
        return f"write [{str(value).lower()}]"
    if isinstance(value, bool | dict | list) or value is None:
        return ""
    items = [item.strip() for item in re.split("[,;]", str(value)) if item.strip()]
    written = in_list(items, of_text=of_text)
    return f"write {written}" if items and written else "put it in brackets: [a, b]"


def for_weights(value: Any, key: str) -> str:
    """Advice for names in a list, or a single name, in place of a mapping of names to weights.

    Args:
        key: the key that has the value.
    """
    items = value if is_list(value) else [value]
    weights: dict[str, Any] = {}
    for item in items:
        if is_mapping(item):
            weights |= item
        elif isinstance(item, str):
            name, _, weight = item.rpartition(":")
            is_number = bool(name) and re.fullmatch(_NUMBER, weight.strip()) is not None
            weights[name.strip() if is_number else item] = weight.strip() if is_number else "1.0"
    names = {n: n if re.fullmatch(r"[A-Za-z][\w-]*", n) else in_quotes(n) for n in weights}
    if not weights or len(weights) > _MOST_ENTRIES or not all(names.values()):
        return f"write each name with its weight, like {key}: {{clay: 1.0}}"
    return f"write {key}: {{{', '.join(f'{names[n]}: {w}' for n, w in weights.items())}}}"


def nearest_multiple(value: float, limits: Mapping[str, float]) -> int:
    """The multiple of `multiple_of` within `ge` and `le` that is nearest to the value."""
    step = limits["multiple_of"]
    within = min(max(value, limits.get("ge", value)), limits.get("le", value))
    return int(round(within / step) * step)


def for_number(value: Any, limits: Collection[float], *, whole: bool) -> str:
    """Advice for another value in place of a number.

    Args:
        limits: the greatest value allowed, if there is one. A percentage is converted to a fraction
            only if the fraction does not exceed it.
        whole: True if the number must be whole.
    """
    if isinstance(value, bool):
        return ""
    if isinstance(value, float):
        is_whole = value.is_integer() and abs(value) < 1e15
        return f"write {int(value)}" if whole and is_whole else ""
    if not isinstance(value, str):
        return ""
    text, mend = without_end(normalize("NFKC", value).strip())
    if mend and re.fullmatch(_NUMBER, text):
        is_right = not whole or float(text).is_integer()
        return f"{mend}: write {_short(float(text))}" if is_right else "write a whole number"
    if advice := with_point(text):
        return _whole(text) if whole else advice
    if (match := re.fullmatch(_FRACTION, text)) and not whole and int(match[2]):
        return f"write {_short(int(match[1]) / int(match[2]))}"
    if match := re.fullmatch(_AMOUNT, text):
        return _amount(float(match[1]), match[2], limits, whole=whole)
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


def for_percent(value: Any, limits: Collection[float]) -> str:
    """Advice for a number such as 60 where at most 1 is allowed: it is probably a percentage."""
    if limits and max(limits) == 1 and isinstance(value, int | float) and 5 <= value <= 100:
        return f"for {_short(value)} % write {_short(value / 100)}"
    return ""


def _short(number: float) -> str:
    return f"{number:.10g}" if abs(number) < 1e10 else str(int(number))
