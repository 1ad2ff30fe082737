"""Says why a picture's file is not read, and what to do about it, by its format."""

from __future__ import annotations

import io
import re
from typing import IO

from dna_pipeline.media.formats import file_kinds, heif, jpeg_words, tiff_words
from dna_pipeline.media.formats.jpeg_end import ZEROS_IN_PLACE

_UNPROCESSED = re.compile(r" \(\d+ bytes not processed\)")
"""Pillow's remark about its own buffer."""
_ZEROS = bytes(256)


def why_not(name: str, file: IO[bytes], reason: str) -> str:
    """Say why a file that begins like one of this format is not read, for people."""
    if name == "TIFF":
        return tiff_words.why_not(file, reason)
    if name == "JPEG":
        return jpeg_words.why_not(file, reason)
    return f"the {name} is broken or cut off at its start ({reason}): copy or export it again"


def damage(file: IO[bytes], error: Exception) -> str:
    """Say what is wrong with a file whose pixels cannot be decoded, and what to do."""
    reason, name = text(error), file_kinds.format_of(file_kinds.read_head(file))
    if name == "EXR":
        return reason
    if "truncated" in reason:
        if _ends_in_zeros(file):
            return ZEROS_IN_PLACE
        return f"{reason}: the file ends too early; copy it again from where it is whole"
    if name == heif.FORMAT:
        return heif.why_not(reason)
    if name in ("TIFF", "JPEG"):
        return why_not(name, file, reason)
    return f"the {name} is damaged ({reason}): copy or export it again"


def _ends_in_zeros(file: IO[bytes]) -> bool:
    length = file.seek(0, io.SEEK_END)
    file.seek(max(0, length - len(_ZEROS)))
    return file.read() == _ZEROS


def text(error: BaseException) -> str:
    """The error's text without details of the decoder; the name of its class if there is none."""
    return _UNPROCESSED.sub("", str(error)) or type(error).__name__
