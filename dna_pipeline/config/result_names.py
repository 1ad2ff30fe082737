"""Names of result folders from a template, like `{stem}-{img2img.strength}`.

A placeholder is a field of templates (`stem`, `row`, …), a parameter of a stage by the key of its
column in a table (`img2img.strength`), or a value of `meta` (`meta.asset`). `{{` and `}}` are
braces. The program appends `-<job8>`, so that two results never share a name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from dna_pipeline.base.naming import safe_name
from dna_pipeline.config.sentences import closest_key
from dna_pipeline.config.templates import FIELDS, TemplateError
from dna_pipeline.config.yaml12 import is_list, is_mapping

MAX_CHARS = 500
"""Longest template."""
MAX_VALUE_CHARS = 40
"""Most characters of one value in a name: prompts are long, and names of files are not."""
MAX_AXES = 6
"""Most values of a matrix that a name has unless its template says so."""

_META = "meta."
_PART = re.compile(r"(\{\{)|(\}\})|\{([^{}]*)\}|([^{}]+)|(.)", re.DOTALL)
_BLANKS = re.compile(r"\s+")


def check_text(template: str) -> str:
    """The template; raises ValueError if its braces do not fit or it has no text."""
    if not template.strip() or len(template) > MAX_CHARS:
        raise ValueError(f"should have 1 to {MAX_CHARS} characters")
    for _ in _parts(template):
        pass
    return template


def check_fields(template: str, parameters: Collection[str]) -> None:
    """Raise `TemplateError` if a placeholder is unknown.

    Args:
        parameters: the keys of parameters that may be named, like `img2img.strength`.
    """
    for name in placeholders(template):
        if name in FIELDS or name in parameters or name.startswith(_META):
            continue
        advice = _nearest(name, [*FIELDS, "meta.…", *parameters])
        raise TemplateError(f"unknown placeholder {{{name[:60]}}}; {advice}")


def placeholders(template: str) -> list[str]:
    """The names between the braces of a valid template."""
    return [name for name, _ in _parts(template) if name]


def fill(template: str, values: Mapping[str, Any], *, strict: bool) -> str:
    """The name that a template makes, safe on every file system; "" if nothing is left of it.

    Args:
        values: by placeholders; `meta` is a mapping of mappings.
        strict: True to refuse a placeholder without a value. Else it stands for nothing, with the
            separators before it.

    Raises:
        TemplateError: the value of a placeholder is missing, or a list or a mapping.
    """
    text = ""
    for name, plain in _parts(template):
        if not name:
            text += plain
            continue
        value = _value(name, values)
        if value is None or is_list(value) or is_mapping(value):
            if strict:
                raise TemplateError(f"{{{name}}} has no value here that is one text or number")
            text = text.rstrip("-_ ")
            continue
        text += _short(_text(value))
    stripped = text.strip("-_. ")
    return safe_name(text) if stripped else ""


def of_axes(keys: Iterable[str], *, has_count: bool) -> str:
    """The template of a batch with a matrix of these keys, whose jobs differ in them alone."""
    shown = [*keys][:MAX_AXES]
    names = ["stem", *shown, *(["seed"] if has_count and not _has_seed(shown) else [])]
    return "-".join(f"{{{name}}}" for name in names)


def _has_seed(keys: Iterable[str]) -> bool:
    return any(key == "seed" or key.endswith(".seed") for key in keys)


def _parts(template: str) -> Iterator[tuple[str, str]]:
    """Name of a placeholder and "", or "" and plain text. Raises `TemplateError`, a ValueError."""
    for match in _PART.finditer(template):
        opened, closed, name, plain, wrong = match.groups()
        if opened or closed:
            yield "", "{" if opened else "}"
        elif name is not None:
            if not (name := name.strip()):
                raise TemplateError("{} names nothing; for braces write {{ and }}")
            yield name, ""
        elif plain is not None:
            yield "", plain
        else:
            raise TemplateError(
                f"the {wrong} at character {match.start() + 1} has no partner; for a brace write "
                f"{wrong * 2}"
            )


def _nearest(name: str, keys: Collection[str]) -> str:
    """The nearest placeholders, the parameter of that name in each stage first."""
    last = name.rpartition(".")[2]
    same = [key for key in keys if key.rpartition(".")[2] == last]
    if same:
        return "did you mean " + " or ".join(f"{{{key}}}" for key in same[:3]) + "?"
    if close := closest_key(name, keys):
        return f"did you mean {close!r}?"
    return f"known here: {', '.join(sorted(keys))}"


def _value(name: str, values: Mapping[str, Any]) -> Any:
    if name in values:
        return values[name]
    value: Any = values
    for key in name.split("."):
        if not is_mapping(value) or key not in value:
            return None
        value = value[key]
    return value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _short(text: str) -> str:
    return _BLANKS.sub(" ", text).strip()[:MAX_VALUE_CHARS].strip()
