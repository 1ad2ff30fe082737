"""Pictures as this API carries them: base64 in JSON, with or without the head of a data URL."""

from __future__ import annotations

import base64
import binascii
import re

from dna_pipeline.interfaces.web.sdapi.errors import Refusal

LEAST_BYTES = 16
"""Fewer bytes are no picture in any format."""
_HEAD_CHARS = 200
_DATA_URL = re.compile(r"\s*data:[^,]*?;base64\s*,", re.IGNORECASE)
_BLANK = re.compile(r"\s+")
_MAGIC = (
    (b"\x89PNG", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp"),
    (b"II*\0", ".tif"), (b"MM\0*", ".tif"), (b"\x76\x2f\x31\x01", ".exr"),
)  # fmt: skip


def decoded(text: str, place: str) -> bytes:
    """The bytes of a picture.

    Args:
        place: key of the request, for the message.

    Raises:
        Refusal: it is no base64, or an address instead of a picture.
    """
    head = text[:_HEAD_CHARS]
    if re.match(r"\s*https?://", head, re.IGNORECASE):
        raise Refusal(f"{place}: addresses are not fetched; send the picture itself in base64")
    if (url := _DATA_URL.match(head)) is not None:
        text = text[url.end() :]
    text = _BLANK.sub("", text).rstrip("=")
    try:
        # Some programs leave the padding out, and some use the alphabet of URLs.
        padded = text + "=" * (-len(text) % 4)
        altchars = b"-_" if "-" in text or "_" in text else None
        data = base64.b64decode(padded, altchars, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(
            f"{place}: that is no base64; send the bytes of a PNG, JPEG or WebP in base64",
            code="image_unreadable",
        ) from None
    if len(data) < LEAST_BYTES:
        raise Refusal(f"{place}: that is too short for a picture", code="image_unreadable")
    return data


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def ending_of(data: bytes) -> str:
    """The ending of a picture's file by its first bytes, for the name of its copy. What it really
    is, is found out when it is decoded."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    if data[4:12] in (b"ftypavif", b"ftypheic", b"ftypmif1"):
        return ".avif" if data[8:12] == b"avif" else ".heic"
    return next((ending for start, ending in _MAGIC if data.startswith(start)), ".png")
