"""Puts marks into the bytes of a finished file, which keep their pixels, vertices and frames.

The bytes are changed and not written anew by a library, since that would compress a JPEG or WebP a
second time. So any writer's files can be marked, those of plug-ins too.

    PNG   a chunk iTXt behind the header            (XMP specification, part 3, PNG)
    JPEG  a segment APP1 behind the first ones      (the same, JPEG)
    WebP  a chunk `XMP ` at the end, told in VP8X   (WebP container specification)
    GLB   the extension KHR_xmp_json_ld             (its own specification, of Khronos)
    MP4   a box `uuid` at the end                   (XMP specification, part 3, MPEG-4)
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

from dna_pipeline.media.marks.packet import Marks, json_ld, xmp

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_KEY = b"XML:com.adobe.xmp\0"
_JPEG_KEY = b"http://ns.adobe.com/xap/1.0/\0"
_MAX_JPEG_SEGMENT = 65_533
_JPEG_LEADING = (0xE0, 0xE1)
"""APP0 and APP1, of JFIF and EXIF, which stand before other segments."""
_VP8X_XMP, _VP8X_ALPHA = 0x04, 0x10
_MP4_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXTENSION = "KHR_xmp_json_ld"


class _Unfit(Exception):
    """The bytes are not of the format, or the packet has no place in it."""


def embed(data: bytes, media_type: str, marks: Marks) -> bytes | None:
    """The file with the marks in it, in place of marks that it has; None if it can hold none.

    Args:
        media_type: as registered with IANA. Others than those of `MEDIA_TYPES` hold none.
    """
    writer = _WRITERS.get(media_type)
    if writer is None:
        return None
    try:
        return writer(data, marks)
    except (_Unfit, struct.error, LookupError, ValueError, Image.UnidentifiedImageError):
        return None


# --- PNG ---


def _png(data: bytes, marks: Marks) -> bytes:
    end = len(_PNG) + 25
    if not data.startswith(_PNG) or data[12:16] != b"IHDR" or len(data) < end:
        raise _Unfit
    body = _PNG_KEY + b"\0\0\0\0" + xmp(marks)
    return b"".join([data[:end], _png_chunk(b"iTXt", body), *_png_others(data, end)])


def _png_others(data: bytes, at: int) -> Iterator[bytes]:
    """The chunks from there to the end, without a packet of XMP."""
    start = at
    while at + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"iTXt" and data.startswith(_PNG_KEY, at + 8):
            yield data[start:at]
            start = at + 12 + size
        at += 12 + size
    yield data[start:]


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    check = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


# --- JPEG ---


def _jpeg(data: bytes, marks: Marks) -> bytes:
    if not data.startswith(b"\xff\xd8\xff"):
        raise _Unfit
    body = _JPEG_KEY + xmp(marks)
    if len(body) > _MAX_JPEG_SEGMENT:
        raise _Unfit
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    leading: list[bytes] = []
    at = 2
    while data[at] == 0xFF and data[at + 1] in _JPEG_LEADING:
        (size,) = struct.unpack_from(">H", data, at + 2)
        if not data.startswith(_JPEG_KEY, at + 4):
            leading.append(data[at : at + 2 + size])
        at += 2 + size
    return b"".join([data[:2], *leading, segment, data[at:]])


# --- WebP ---


def _webp(data: bytes, marks: Marks) -> bytes:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise _Unfit
    chunks = [(kind, body) for kind, body in _riff_chunks(data) if kind != b"XMP "]
    if chunks[0][0] == b"VP8X":
        flags = chunks[0][1]
        chunks[0] = (b"VP8X", bytes([flags[0] | _VP8X_XMP]) + flags[1:])
    else:
        chunks.insert(0, (b"VP8X", _vp8x(data)))
    chunks.append((b"XMP ", xmp(marks)))
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2)
        for kind, part in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    (size,) = struct.unpack_from("<I", data, 4)
    at, end = 12, min(8 + size, len(data))
    while at + 8 <= end:
        (length,) = struct.unpack_from("<I", data, at + 4)
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _vp8x(data: bytes) -> bytes:
    """The header that a WebP of one picture alone does not have."""
    with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
        width, height = image.size
        flags = _VP8X_XMP | (_VP8X_ALPHA if image.mode == "RGBA" else 0)
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return bytes([flags, 0, 0, 0]) + sides


# --- GLB ---


def _glb(data: bytes, marks: Marks) -> bytes:
    magic, version, _, size, kind = struct.unpack_from("<4sIIII", data)
    if (magic, version, kind) != (b"glTF", 2, 0x4E4F534A):
        raise _Unfit
    document: dict[str, Any] = json.loads(data[20 : 20 + size])
    document.setdefault("extensions", {})[_EXTENSION] = {"packets": [json_ld(marks)]}
    document["asset"].setdefault("extensions", {})[_EXTENSION] = {"packet": 0}
    used = document.setdefault("extensionsUsed", [])
    if _EXTENSION not in used:
        used.append(_EXTENSION)
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + size :]
    total = 20 + len(text) + len(rest)
    return struct.pack("<4sIIII", magic, version, total, len(text), kind) + text + rest


# --- MP4 ---


def _mp4(data: bytes, marks: Marks) -> bytes:
    if data[4:8] != b"ftyp":
        raise _Unfit
    body = _MP4_UUID + xmp(marks)
    return data + struct.pack(">I4s", len(body) + 8, b"uuid") + body


_WRITERS: dict[str, Callable[[bytes, Marks], bytes]] = {
    "image/png": _png,
    "image/jpeg": _jpeg,
    "image/webp": _webp,
    "model/gltf-binary": _glb,
    "video/mp4": _mp4,
}
MEDIA_TYPES = frozenset(_WRITERS)
"""Media types of files that can hold marks."""
