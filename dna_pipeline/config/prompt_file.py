"""Prompt files: a text beside an image, which is its prompt, read as the YAML that means the same.

The text is in the form of AUTOMATIC1111's `parameters` (a prompt alone, or with `Negative prompt:`
and a last line of parameters), or has lines of options as in its script for prompts from a file:
`--prompt "a cat" --negative_prompt "low" --steps 20`. The options' names are those of `img2img`.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from operator import itemgetter
from typing import Any

from dna_pipeline.base.errors import Failure, SidecarInvalid
from dna_pipeline.config import yaml12
from dna_pipeline.config.image_metadata import NEGATIVE, MetadataError, of_a1111

SUFFIX = ".txt"
STAGE = "img2img"
"""Type of the stages that get the prompt."""

_SENTENCE = (
    "The text beside the image cannot be used as its prompt file as it is; correct it and retry "
    "the job."
)
_OPTION = re.compile(r'--([A-Za-z_]+)(?:\s+|=)("(?:[^"\\]|\\.)*"|(?:(?!\s--[A-Za-z_]).)*)')
_ESCAPED = re.compile(r'\\(["\\])')
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_MOST_CHARS = 20_000
"""Longest text in which options are looked for; a longer one is too long for a prompt anyway."""
_TEXTS = frozenset({"prompt", "negative_prompt", "positive_prompt"})


def is_prompt_file(name: str) -> bool:
    """True for the name of a prompt file."""
    return name.lower().endswith(SUFFIX)


def in_words_of_texts(failure: Failure) -> Failure:
    """The failure of a job whose prompt file is wrong, in words about that and not about a YAML."""
    if failure.code != SidecarInvalid.code:
        return failure
    return replace(failure, message=_SENTENCE)


def as_yaml(data: bytes) -> bytes:
    """A prompt file as a sidecar's bytes, with each key in the line of the text that it comes from;
    the file itself if it is no text, which no reader of sidecars accepts either.

    What the text says twice stands twice in the result, so that it is refused and not chosen from.
    """
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError:
        return data
    lines = text.replace("\r\n", "\n").rstrip().split("\n")
    entries, last = "", 1
    for line, name, value in sorted(_entries(lines), key=itemgetter(0)):
        if value != "":
            entry = f"{yaml12.dumps(name)}: {yaml12.dumps(value)}"
            entries += ("," if entries else "") + "\n" * (line - last) + entry
            last = line
    return (f"{{{yaml12.dumps(STAGE)}: {{{entries}}}}}\n" if entries else "{}\n").encode()


def _entries(lines: list[str]) -> Iterator[tuple[int, str, Any]]:
    """The line, counted from 1, the name and the value of all that the text says."""
    if sum(map(len, lines)) > _MOST_CHARS:
        yield 1, "prompt", "\n".join(lines)
        return
    plain = "\n".join(line for line in lines if not _is_options(line)).strip()
    try:
        values = of_a1111(plain)
    except MetadataError:  # the last line has parameters that are none
        values = {"prompt": plain}
    for name, value in values.items():
        yield _line(lines, name), name, value
    for number, line in enumerate(lines, 1):
        if _is_options(line):
            yield from ((number, n, _value(n, text)) for n, text in _OPTION.findall(line))


def _line(lines: list[str], name: str) -> int:
    """Number of the line without options that a value comes from."""
    plain = [(number, line) for number, line in enumerate(lines, 1) if not _is_options(line)]
    if name == "prompt":
        return next((number for number, line in plain if line.strip()), 1)
    if name == "negative_prompt":
        return next((number for number, line in plain if line.startswith(NEGATIVE)), 1)
    return plain[-1][0]


def _is_options(line: str) -> bool:
    return line.lstrip().startswith("--")


def _value(name: str, text: str) -> str | int | float:
    """The value of an option: a number, where the text is one that can be written as YAML."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = _ESCAPED.sub(r"\1", text[1:-1])
    if name in _TEXTS or len(text) > yaml12.MAX_DIGITS or not (match := _NUMBER.fullmatch(text)):
        return text
    number = float(text) if match[1] else int(text)
    return text if number == math.inf or number == -math.inf else number
