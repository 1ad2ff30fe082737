"""Standard output and error that can show any text, whatever their encoding."""

from __future__ import annotations

import codecs
import io
import sys

_ESCAPING = "ascii_with_escapes"
"""Does what ASCII does. Click takes a stream that says that it is ASCII for misconfigured, and
writes UTF-8 to it."""


def escape_unencodable() -> None:
    """Have both streams show letters that their encoding lacks by their numbers (`\\u732b`).

    Where output is piped on Windows, or in the C locale, that is most letters; without this, a
    print of one ends the command. Names that are not valid Unicode need it everywhere.
    """
    codecs.register(_find_escaping)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = _ESCAPING if codecs.lookup(stream.encoding).name == "ascii" else None
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


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
