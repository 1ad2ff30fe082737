"""Standard output and error that can show any text, whatever their encoding."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
from typing import Any

_ESCAPING = "ascii_with_escapes"
"""Name of a codec that does the same as ASCII. Click treats a stream whose codec is called ASCII
as misconfigured, and writes UTF-8 to it."""


def escape_unencodable() -> None:
    """Let both streams show letters that their encoding lacks by their numbers (`\\u732b`).

    Otherwise a print of such a letter ends the command. On Windows with piped output, and in the C
    locale, most letters are such; names that are not valid Unicode are such everywhere.
    """
    codecs.register(_find_escaping)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = _ESCAPING if codecs.lookup(stream.encoding).name == "ascii" else None
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def shown(text: str) -> str:
    """Text as standard output shows it: letters that its encoding lacks are escaped."""
    return shown_on(sys.stdout, text)


def shown_on(stream: Any, text: str) -> str:
    """Text as a stream shows it: letters that its encoding lacks are escaped."""
    if stream is None:  # it was closed before the program began
        return text
    encoding, errors = stream.encoding, stream.errors
    if encoding is None or errors != "backslashreplace":
        return text
    return text.encode(encoding, errors).decode(encoding)


def width(text: str) -> int:
    """Number of terminal columns of the text: two for a Chinese letter, none for a combining mark,
    which stands on the letter before it."""
    return sum(map(_letter_width, text))


def _letter_width(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _find_escaping(name: str) -> codecs.CodecInfo | None:
    if name != _ESCAPING:
        return None
    ascii_ = codecs.lookup("ascii")
    return codecs.CodecInfo(
        ascii_.encode,
        ascii_.decode,
        ascii_.streamreader,
        ascii_.streamwriter,
        ascii_.incrementalencoder,
        ascii_.incrementaldecoder,
        name=_ESCAPING,
    )
