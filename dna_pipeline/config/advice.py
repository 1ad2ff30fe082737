"""How to write a value that was written in a way that people know from elsewhere.

Decimal commas, percent, units, `yes`, quotes around numbers: each is refused, since a guess could
make a wrong picture, and each is answered with the value to write.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from unicodedata import normalize

from dna_pipeline.config.dates import dates_meant
from dna_pipeline.config.yaml12 import is_list, is_mapping
from dna_pipeline.config.yaml_slips import in_list, in_quotes, quote_it, with_point

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


_END = re.compile(r"(.*?)\s*(;|,|//.*)", re.DOTALL)
"""What people who write code put behind a value."""
_NAMES = frozenset({"pipeline", "model"})
"""Keys whose text is one name."""


def for_text(value: Any, key: str = "") -> str:
    """For a value in place of text: `put it in quotes`, with the text where it can be told.

    Args:
        key: the key that it stands under.
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
    """For a list in place of one text, which brackets or dashes made of it."""
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
    """For a date in another form than RFC 3339's."""
    meant = dates_meant(text.strip()) if isinstance(text, str) else []
    return f"write {' or '.join(meant)}" if meant else ""


def for_matrix(value: Any) -> str:
    """For what is no mapping in place of `matrix`."""
    return "" if is_mapping(value) else "write it like matrix: {img2img.strength: [0.4, 0.6]}"


def for_values(value: Any, key: str) -> str:
    """For what is no list in place of a parameter's values in `matrix`.

    Args:
        key: the key of `matrix` that it stands under.
    """
    if not is_mapping(value) or not value:
        return for_list(value, of_text=False)
    entries = [_entry(f"{key}.{name}", item) for name, item in value.items()]
    if all(entries) and len(entries) <= _MOST_ENTRIES:
        return f"write {' and '.join(entries)}"
    return "write each parameter like img2img.strength: [0.4, 0.6]"


_MOST_ENTRIES = 3


def _entry(key: str, value: Any) -> str:
    """A parameter with its values, as `matrix` has them; "" where that cannot be told."""
    items = value if is_list(value) else [value]
    if not items or not all(_is_written(item) for item in items):
        return ""
    texts = [in_quotes(i) if isinstance(i, str) else str(i) for i in items]
    return f"`{key}: [{', '.join(texts)}]`" if all(texts) else ""


def for_switch(value: Any) -> str:
    """For a value in place of `true` or `false`."""
    text = without_end(value)[0] if isinstance(value, str) else str(value)
    word = text.strip().casefold() if isinstance(value, str | int) else ""
    if word in _YES | _NO:
        right = "true" if word in _YES else "false"
        return f"write {right} without quotes" if value == right else f"write {right}"
    return ""


def for_choice(value: Any, choices: list[str]) -> str:
    """For `yes` or `no` where `false` or one of these words is wanted."""
    told = for_switch(value)
    return f"write {choices[0]}" if choices and told.startswith("write true") else told


def without_end(text: str) -> tuple[str, str]:
    """A value without the `;`, the `,` or the `// comment` behind it, and how to say that."""
    found = _END.fullmatch(text.strip())
    if found is None or not found[1]:
        return text, ""
    is_comment = found[2].startswith("//")
    return found[1], "a comment begins with #" if is_comment else f"leave out the `{found[2]}`"


def for_list(value: Any, *, of_text: bool = True) -> str:
    """For a single value, or several in one text, in place of a list.

    Args:
        of_text: the list holds text, so that a number is to be quoted.
    """
    if isinstance(value, bool) and not of_text:
        return f"write [{str(value).lower()}]"
    if isinstance(value, bool | dict | list) or value is None:
        return ""
    items = [item.strip() for item in re.split("[,;]", str(value)) if item.strip()]
    written = in_list(items, of_text=of_text)
    return f"write {written}" if items and written else "put it in brackets: [a, b]"


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
    text, mend = without_end(normalize("NFKC", value).strip())
    if mend and re.fullmatch(_NUMBER, text):
        is_right = not whole or float(text).is_integer()
        return f"{mend}: write {_short(float(text))}" if is_right else "write a whole number"
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
