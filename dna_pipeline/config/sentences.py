"""Conversion of pydantic's errors about a value to sentences for the person who wrote it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dna_pipeline.config import advice
from dna_pipeline.config.yaml12 import KeyPath

_NOUNS = {
    "bool_type": "true or false",
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "path_type": "a path",
}
_NUMBERS = {"int_type", "float_type"}
_BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}
_BE = "should be "
_LIKE = 0.7
"""Similarity from which a word counts as a misspelled key, unless both begin with the same
letters."""
_SAME_START = 4
_MOST_LISTED = 20
"""Most names that a message lists: among more, nobody finds the right one."""
_REFERENCE = "docs/reference.md"
_VAGUELY_LIKE = 0.5
_MOST_NEAR = 3


def nearest(word: str, words: Iterable[str], *, is_key: bool = False) -> str:
    """A clause that names the nearest of the words, or all of them if none is near; of very many,
    those that are vaguely like it, and where all are."""
    names = sorted(words)
    if close := (closest_key if is_key else closest)(word, names):
        return f"did you mean {close!r}?"
    if len(names) > _MOST_LISTED:
        return _some_of(word, names, is_key=is_key)
    return f"known here: {', '.join(names)}" if names else "nothing is known here"


def _some_of(word: str, names: list[str], *, is_key: bool) -> str:
    """A clause that names a few of many words."""
    if not is_key:
        return f"known here: {', '.join(names[:_MOST_LISTED])} and {len(names) - _MOST_LISTED} more"
    folded = {name.casefold(): name for name in names}
    near = get_close_matches(word.casefold()[:100], folded, _MOST_NEAR, _VAGUELY_LIKE)
    listed = f"{_REFERENCE} lists all {len(names)} that are known here"
    return f"similar ones: {', '.join(folded[one] for one in near)}; {listed}" if near else listed


def closest(word: str, names: Iterable[str]) -> str | None:
    """The name that is most similar to the word; case does not count. None if none is similar."""
    folded = {name.casefold(): name for name in names}
    close = get_close_matches(word.casefold()[:100], folded, n=1)
    return folded[close[0]] if close else None


def closest_key(word: str, names: Iterable[str]) -> str | None:
    """As `closest`, but None if the similarity is low.

    People misspell keys and do not guess them, so a wrong suggestion is worse than a list of all.
    """
    if (close := closest(word, names)) is None:
        return None
    one, other = word.casefold()[:100], close.casefold()
    is_like = bool(get_close_matches(one, [other], n=1, cutoff=_LIKE))
    return close if is_like or one[:_SAME_START] == other[:_SAME_START] else None


def shown(value: Any) -> str:
    """A value in YAML's notation, shortened; only the kind of a collection."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = repr(value).lower() if isinstance(value, bool) else repr(value)
    if isinstance(value, float) and not math.isfinite(value):
        text = re.sub("(?=[in])", ".", text, count=1)
    return text if len(text) <= 60 else f"{text[:57]}…"


def sentence(items: list[dict[str, Any]], model: type[BaseModel]) -> str:
    """One sentence for all of pydantic's errors about one value: a union gives one per choice.

    Args:
        items: from `ValidationError.errors()`, all about the same value.
        model: the model of the validation; its constraints give the whole range of a number.
    """
    clauses = list(dict.fromkeys(_clause(item, _field_at(model, item["loc"])) for item in items))
    if not all(clause.startswith(_BE) for clause in clauses):
        return "; ".join(clauses)
    value = items[0]["input"]
    expectation = " or ".join(clause.removeprefix(_BE) for clause in clauses)
    field = _field_at(model, items[0]["loc"])
    mend = _advice(items, value, field) or (_for_null(field) if value is None else "")
    return f"{_BE}{expectation}, not {shown(value)}{mend and '; '}{mend}"


def _advice(items: list[dict[str, Any]], value: Any, field: FieldInfo | None) -> str:
    """Advice how to write the intended value; "" if that is unknown."""
    limits = _limits(field)
    kinds = {item["type"] for item in items}
    path: KeyPath = items[0]["loc"]
    most = [limits[name] for name in ("le", "lt") if name in limits]
    text = _of_matrix(value, path)
    if not text and "string_type" in kinds:
        text = advice.for_text(value, str(path[-1]) if path else "")
    text = text or (advice.for_list(value) if "list_type" in kinds else "")
    if not text and "dict_type" in kinds and _maps_to_numbers(field):
        text = advice.for_weights(value, str(path[-1]))
    text = text or (advice.for_switch(value) if "bool_type" in kinds else "")
    text = text or (advice.for_percent(value, most) if "less_than_equal" in kinds else "")
    text = text or (advice.for_time(value) if "value_error" in kinds else "")
    if not text and kinds & _NUMBERS:
        text = advice.for_number(value, most, whole="float_type" not in kinds)
    if not text and "multiple_of" in limits and kinds & {*_BOUNDS, "multiple_of"}:
        text = f"write {advice.nearest_multiple(value, limits)}"
    return text or _nearest_choice(items, value) or _nearest_word(field, value)


def _maps_to_numbers(field: FieldInfo | None) -> bool:
    """True if the field is a mapping of names to numbers."""
    parts = () if field is None else get_args(field.annotation)
    return len(parts) == 2 and float in (parts[1], *get_args(parts[1]))


def _nearest_word(field: FieldInfo | None, value: Any) -> str:
    """Advice for a text that is almost one of the words of a field that takes other texts too."""
    choices = () if field is None else get_args(field.annotation)
    words = [w for c in choices if get_origin(c) is Literal for w in get_args(c)]
    close = closest(value, words) if isinstance(value, str) and str in choices else None
    return f"did you mean {close}?" if close else ""


def _for_null(field: FieldInfo | None) -> str:
    """Advice for an optional key without a value; "" for a required key."""
    if field is None or field.is_required():
        return ""
    if field.default == "":
        return 'write "" for no text, or leave the key out'
    return "give it a value, or leave it out"


def _of_matrix(value: Any, path: KeyPath) -> str:
    """Advice for `matrix` and for the values of its keys; "" at other places."""
    if path[:1] != ("matrix",) or len(path) > 2:
        return ""
    key = ".".join(map(str, path[1:]))
    return advice.for_values(value, key) if key else advice.for_matrix(value)


def _nearest_choice(items: list[dict[str, Any]], value: Any) -> str:
    """Advice that names the choice most similar to the value."""
    expected = " ".join(i["ctx"]["expected"] for i in items if i["type"] == "literal_error")
    choices = re.findall(r"'([^']*)'", expected)
    if isinstance(value, str) and (close := closest(value, choices)):
        return f"did you mean {close!r}?"
    if re.search("True|False", expected):
        return advice.for_choice(value, [] if "True" in expected else choices)
    if "'from_content'" in expected and isinstance(value, str | None):
        return "-1 draws one for each job, from_content makes one of the image's bytes"
    return ""


def _clause(item: dict[str, Any], field: FieldInfo | None) -> str:
    """Clause for one of pydantic's errors: `should be …` if its message has such a form."""
    kind, context = item["type"], item.get("ctx", {})
    if kind in _NUMBERS:
        return f"{_BE}{_number(_NOUNS[kind], _limits(field))}"
    if kind in _NOUNS:
        return f"{_BE}{_NOUNS[kind]}"
    if kind in _BOUNDS or kind == "multiple_of":
        return f"{_BE}{_range(_limits(field) or context)}"
    if kind in ("string_too_short", "too_short") and context.get("min_length") == 1:
        return "should not be empty"
    text = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if kind == "literal_error":
        text = re.sub(r"\b(True|False)\b", lambda word: word[0].lower(), text)
    return text.replace(" after validation", "")


def _limits(field: FieldInfo | None) -> dict[str, float]:
    """The bounds `ge`, `gt`, `le`, `lt` of a field, also of a field that may be null."""
    if field is None:
        return {}
    marks = list(field.metadata)
    for choice in get_args(field.annotation):
        for mark in getattr(choice, "__metadata__", ()):
            marks += mark.metadata if isinstance(mark, FieldInfo) else [mark]
    names = ("ge", "gt", "le", "lt", "multiple_of")
    return {name: getattr(mark, name) for mark in marks for name in names if hasattr(mark, name)}


def _number(noun: str, limits: Mapping[str, float]) -> str:
    if not limits:
        return noun
    text = _range(limits)
    return f"{noun} {text}" if text.startswith("from ") else f"{noun}, {text}"


def _range(limits: Mapping[str, float]) -> str:
    if (step := limits.get("multiple_of")) is not None:
        rest = _range({name: value for name, value in limits.items() if name != "multiple_of"})
        return f"{rest}{' and ' if rest else ''}a multiple of {_plain(step)}"
    if "ge" in limits and "le" in limits:
        low, high = _plain(limits["ge"]), _plain(limits["le"])
        return f"from {low} to {high}"
    words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
    return " and ".join(f"{words[k]} {_plain(limits[k])}" for k in words if k in limits)


def _plain(number: float) -> str:
    return str(int(number) if number == int(number) else number)


def _field_at(model: type[BaseModel], path: KeyPath) -> FieldInfo | None:
    """The field of the value at that place; None for the items of a list."""
    field: FieldInfo | None = None
    for part in path:
        following = model.model_fields.get(part) if isinstance(part, str) else None
        if following is None:
            return field if isinstance(part, str) else None
        field, model = following, nested_model(following) or model
    return field


def nested_model(field: FieldInfo) -> type[BaseModel] | None:
    """The model in a field's type: alone, in a list or as one of several choices; None if none."""
    choices = (field.annotation, *get_args(field.annotation))
    return next((c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)), None)
