"""Parts of a prompt that other programs obey and that are read as text here.

These are tags of LoRAs and, with `prompt_syntax: plain`, weights and attention brackets. Prompts
are copied from one program to another, so a prompt with such parts gets a remark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TAG = re.compile(r"<(?:lora|locon|loha|lyco|hypernet)\s*:[^<>]+>", re.IGNORECASE)
_WEIGHT = re.compile(r"(?<!\\)\((?:[^()\\]|\\.|\([^()]*\))*:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)")
_RATIO = re.compile(r"\d\s*:\s*\d+\s*\)$")
_NESTED = re.compile(r"(?<!\\)\(\s*\([^()]*\)\s*\)")
_BRACKETS = re.compile(r"(?<!\\)\[[^\[\]]*[^\W\d_][^\[\]]*\]")
_MOST_CHARS = 40


def unread(text: str, *, weights: bool = True) -> list[str]:
    """Phrases for the kinds of such syntax in a prompt: up to two, in order, each with an example.

    Weights are `(red:1.4)`, `((red))` and square brackets around words. Single parentheses without
    a number are ordinary punctuation, ratios and times like `(scale 1:10)` are no weights, and what
    stands behind a backslash is meant as it is.

    Args:
        weights: False if weights are obeyed, so that only tags are looked for.
    """
    phrases: list[str] = []
    if weights and (weight := next(_weights(text), None)) is not None:
        phrases.append(f'weights ("{shortened(weight)}")')
    if (tag := _TAG.search(text)) is not None:
        kind = "hypernetwork" if tag[0][1].lower() == "h" else "LoRA"
        phrases.append(f'{kind} tags ("{shortened(tag[0])}")')
    return phrases


def _weights(text: str) -> Iterator[str]:
    plain = _TAG.sub("", text)
    yield from (m[0] for m in _WEIGHT.finditer(plain) if not _RATIO.search(m[0]))
    for pattern in (_NESTED, _BRACKETS):
        yield from (match[0] for match in pattern.finditer(plain))


def shortened(text: str) -> str:
    """A text as messages quote it, at most 40 characters."""
    return text if len(text) <= _MOST_CHARS else f"{text[: _MOST_CHARS - 1]}…"
