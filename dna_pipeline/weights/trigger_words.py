"""The words that a LoRA was trained with, as other programs keep them beside its file.

`clay.civitai.info` has the list `trainedWords`, `clay.json` of AUTOMATIC1111's web UI the text
`activation text`. People write and copy these files by hand, so one that is wrong in any way has no
words and is never an error.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

MAX_BYTES = 1 << 20
"""Most bytes of a file that is read."""
MOST_WORDS = 32
MOST_LETTERS = 100


def trigger_words(lora: Path) -> list[str]:
    """The words and phrases that a LoRA answers to, each once; none if no file tells."""
    information = _content(lora.with_suffix(".civitai.info")).get("trainedWords")
    texts = cast("list[Any]", information) if isinstance(information, list) else []
    texts = [*texts, _content(lora.with_suffix(".json")).get("activation text")]
    phrases = [part for text in texts if isinstance(text, str) for part in text.split(",")]
    words = (" ".join(phrase.split()) for phrase in phrases)
    usable = {
        _letters(word): word
        for word in words
        if _letters(word).strip() and len(word) <= MOST_LETTERS and word.isprintable()
    }
    return list(usable.values())[:MOST_WORDS]


def has_any(text: str, words: list[str]) -> bool:
    """True if the text holds one of the words, whatever case and brackets they are written in."""
    letters = _letters(text)
    # Scripts that are not ASCII may have no blanks between words.
    return any((_letters(w) if w.isascii() else _letters(w).strip()) in letters for w in words)


def _content(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_BYTES).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", content) if isinstance(content, dict) else {}


def _letters(text: str) -> str:
    """The words of a text, lower case, with one blank before each and one at the end."""
    words = re.sub(r"[\W_]+", " ", text.casefold()).strip()
    return f" {words} "
