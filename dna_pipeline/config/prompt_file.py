"""Prompt files: a text beside an image, which is its prompt, read as the YAML that means the same.

The text is in the form of AUTOMATIC1111's `parameters` (a prompt alone, or with `Negative prompt:`
and a last line of parameters), or has lines of options as in its script for prompts from a file:
`--prompt "a cat" --negative_prompt "low" --steps 20`. The options' names are those of `img2img`.
"""

from __future__ import annotations

import re
from typing import Any

from dna_pipeline.config import yaml12
from dna_pipeline.config.image_metadata import NEGATIVE, MetadataError, of_a1111

SUFFIX = ".txt"
STAGE = "img2img"
"""Type of the stages that get the prompt."""

_OPTION = re.compile(r'--([A-Za-z_]+)(?:\s+|=)("(?:[^"\\]|\\.)*"|(?:(?!\s--[A-Za-z_]).)*)')
_ESCAPED = re.compile(r'\\(["\\])')
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_MOST_CHARS = 20_000
"""Longest text in which options are looked for; a longer one is too long for a prompt anyway."""
_TEXTS = frozenset({"prompt", "negative_prompt", "positive_prompt"})


def is_prompt_file(name: str) -> bool:
    """True for the name of a prompt file."""
    return name.lower().endswith(SUFFIX)


def as_yaml(data: bytes) -> bytes:
    """A prompt file as a sidecar's bytes, with each key in the line of the text that it comes from;
    the file itself if it is no text in UTF-8, which no reader of sidecars accepts either."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data
    lines = text.replace("\r\n", "\n").rstrip().split("\n")
    values = _values(lines) if len(text) <= _MOST_CHARS else {"prompt": text}
    places = {name: _line(lines, name) for name in values}
    entries, last = "", 1
    for name in sorted(values, key=places.__getitem__):
        entry = f"{yaml12.dumps(name)}: {yaml12.dumps(values[name])}"
        entries += ("," if entries else "") + "\n" * (places[name] - last) + entry
        last = places[name]
    return (f"{{{yaml12.dumps(STAGE)}: {{{entries}}}}}\n" if values else "{}\n").encode()


def _line(lines: list[str], name: str) -> int:
    """Number of the line that a value comes from, counted from 1."""
    if name == "prompt":
        starts = (bool(line.strip()) and not _is_options(line) for line in lines)
    elif name == "negative_prompt" and any(line.startswith(NEGATIVE) for line in lines):
        starts = (line.startswith(NEGATIVE) for line in lines)
    else:
        starts = (False for _ in lines)
    named = (number for number, is_start in enumerate(starts, 1) if is_start)
    options = (n for n, line in enumerate(lines, 1) if _is_options(line) and f"--{name}" in line)
    return next(options, next(named, len(lines)))


def _is_options(line: str) -> bool:
    return line.lstrip().startswith("--")


def _values(lines: list[str]) -> dict[str, Any]:
    plain = "\n".join(line for line in lines if not _is_options(line)).strip()
    try:
        values = of_a1111(plain)
    except MetadataError:  # the last line has parameters that are none
        values = {"prompt": plain}
    for line in lines:
        if _is_options(line):
            values |= {name: _value(name, value) for name, value in _OPTION.findall(line)}
    return {name: value for name, value in values.items() if value != ""}


def _value(name: str, text: str) -> str | int | float:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = _ESCAPED.sub(r"\1", text[1:-1])
    if name in _TEXTS or (match := _NUMBER.fullmatch(text)) is None:
        return text
    return float(text) if match[1] else int(text)
