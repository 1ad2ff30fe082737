"""Files made byte by byte, and the colours that they should come to, for tests of reading."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

D65 = (0.3127, 0.3290)
CHROMATICITIES = {
    "Rec. 709": [(0.64, 0.33), (0.30, 0.60), (0.15, 0.06)],
    "P3": [(0.68, 0.32), (0.265, 0.69), (0.15, 0.06)],
    "Rec. 2020": [(0.708, 0.292), (0.17, 0.797), (0.131, 0.046)],
    "Adobe RGB": [(0.64, 0.33), (0.21, 0.71), (0.15, 0.06)],
}


def to_xyz(name: str) -> Floats:
    """From linear light to CIE XYZ: each primary as bright as it must be for all to make white."""
    places = np.array([(x, y, 1 - x - y) for x, y in CHROMATICITIES[name]]).T
    white = np.array([D65[0], D65[1], 1 - sum(D65)]) / D65[1]
    return places * (np.linalg.inv(places) @ white)


def to_srgb(name: str) -> Floats:
    """From linear light to that of sRGB, between spaces with the white of daylight (D65)."""
    return np.linalg.inv(to_xyz("Rec. 709")) @ to_xyz(name)


def srgb(light: Floats) -> Floats:
    """Linear light as sRGB, 0 to 255, not rounded."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def linear(values: Floats) -> Floats:
    """The light of sRGB values of 0 to 1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: NDArray[Any], *extra: bytes) -> bytes:
    """A PNG of grey, grey with alpha, RGB or RGBA, of 8 or 16 bits by the type of the values."""
    height, width, channels = values.shape
    depth, kind = values.itemsize * 8, {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    stored = values.astype(f">u{values.itemsize}")
    rows = b"".join(b"\0" + row.tobytes() for row in stored)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def gamma(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def primaries(*numbers: float) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(number * 100_000) for number in numbers)))


def cicp(*numbers: int) -> bytes:
    return chunk(b"cICP", bytes(numbers))


def profile_chunk(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"a\0\0" + zlib.compress(profile))


def icc(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of a display, version 4."""
    offset, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    head = bytearray(128)
    head[0:4] = struct.pack(">I", offset + len(body))
    head[8:24] = b"\x04\x20\0\0mntr" + space + b"XYZ "
    head[36:40] = b"acsp"
    head[68:80] = struct.pack(">3i", 63190, 65536, 54061)
    return bytes(head) + table + body


def xyz(*numbers: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(number * 65536) for number in numbers))


def power_curve(exponent: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256))


def table_curve(values: Floats) -> bytes:
    table = np.rint(values * 65535).astype(">u2").tobytes()
    return b"curv\0\0\0\0" + struct.pack(">I", len(values)) + table


def formula_curve(kind: int, *numbers: float) -> bytes:
    fixed = struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + fixed


COLORANTS = {
    "Rec. 709": [
        (0.43607, 0.22249, 0.01392),
        (0.38515, 0.71687, 0.09708),
        (0.14307, 0.06061, 0.7141),
    ],
    "P3": [
        (0.51512, 0.2412, -0.00105),
        (0.29198, 0.69225, 0.04189),
        (0.1571, 0.06657, 0.78407),
    ],
    "Adobe RGB": [
        (0.60974, 0.31111, 0.01947),
        (0.20528, 0.62567, 0.06087),
        (0.14919, 0.06322, 0.74457),
    ],
}
"""CIE XYZ of the primaries, with the white of ICC profiles (D50)."""


def rgb_profile(curve: bytes, space: str = "Rec. 709") -> bytes:
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    tags = {name: xyz(*numbers) for name, numbers in zip(names, COLORANTS[space], strict=True)}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return icc(b"RGB ", {b"wtpt": xyz(0.9642, 1, 0.8249), **tags, **curves})


def grey_profile(curve: bytes) -> bytes:
    return icc(b"GRAY", {b"wtpt": xyz(0.9642, 1, 0.8249), b"kTRC": curve})


def tiff(*pages: dict[int, Any], order: str = "<", loop_to: int | None = None) -> bytes:
    """A TIFF of pages, each a mapping of tags to values; the bytes of tag 273 are its strips.

    Args:
        loop_to: the page that follows the last one.
    """
    data = bytearray({"<": b"II*\0", ">": b"MM\0*"}[order] + bytes(4))
    link, offsets = 4, list[int]()
    for page in pages:
        tags = dict(page)
        strips: list[bytes] = tags.get(273, [])
        tags[273], tags[279] = [], [len(strip) for strip in strips]
        for strip in strips:
            tags[273].append(len(data))
            data += strip
        entries = b""
        for tag, value in sorted(tags.items()):
            entries += _entry(tag, value, order, data)
        data += bytes(len(data) % 2)
        struct.pack_into(f"{order}I", data, link, len(data))
        offsets.append(len(data))
        data += struct.pack(f"{order}H", len(tags)) + entries
        link = len(data)
        data += bytes(4)
    if loop_to is not None:
        struct.pack_into(f"{order}I", data, link, offsets[loop_to])
    return bytes(data)


def _entry(tag: int, value: Any, order: str, data: bytearray) -> bytes:
    if isinstance(value, bytes):
        kind, count, stored = 7, len(value), value
    else:
        values = value if isinstance(value, list) else [value]
        kind, code = (4, "I") if tag in (256, 257, 273, 278, 279, 254) else (3, "H")
        count, stored = len(values), struct.pack(f"{order}{len(values)}{code}", *values)
    if len(stored) > 4:
        data += bytes(len(data) % 2)
        place = len(data)
        data += stored
        stored = struct.pack(f"{order}I", place)
    return struct.pack(f"{order}HHI", tag, kind, count) + stored.ljust(4, b"\0")


def page(
    values: NDArray[Any],
    photometric: int,
    *extras: int,
    strips: list[bytes] | None = None,
    **more: Any,
) -> dict[int, Any]:
    """The tags of a page with these samples, (height, width, channels), uncompressed."""
    height, width, channels = values.shape
    tags: dict[int, Any] = {
        256: width,
        257: height,
        258: [values.itemsize * 8] * channels,
        259: 1,
        262: photometric,
        273: strips if strips is not None else [values.tobytes()],
        277: channels,
        278: height,
    }
    if extras:
        tags[338] = list(extras)
    return tags | {int(tag[1:]): value for tag, value in more.items()}
