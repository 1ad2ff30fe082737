"""ICC profiles that are no more than curves and a matrix, as a colour space.

Pillow hands Little CMS pixels of 8 bits only. Where a file has 16, steps of the shadows would be
lost before the profile comes to them; so profiles of this simple kind are computed here instead.
Source of the format: ICC.1:2022.
"""

from __future__ import annotations

import struct

import numpy as np

from dna_pipeline.media.colour.colour_space import (
    ColourSpace,
    Curve,
    Floats,
    matrix_from_xyz,
    power,
)
from dna_pipeline.media.colour.primaries import D50_XYZ, Vector

_HEADER_BYTES = 128
_MAX_TAGS = 100
_TABLES = frozenset((b"A2B0", b"A2B1", b"A2B2", b"D2B0", b"D2B1", b"D2B2"))


def colour_space(profile: bytes) -> ColourSpace | None:
    """The colour space of a profile for RGB or grey; None if it holds tables, or is damaged.

    A profile with both tables and a matrix counts as one with tables, as it does for Little CMS.
    """
    try:
        tags = _tags(profile)
        if _TABLES & tags.keys() or profile[20:24] != b"XYZ ":
            return None
        if profile[16:20] == b"GRAY":
            curve = _curve(tags[b"kTRC"])
            return ColourSpace((curve, curve, curve))
        if profile[16:20] != b"RGB ":
            return None
        red, green, blue = (_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC"))
        x, y, z = zip(*(_xyz(tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")), strict=True)
        return ColourSpace((red, green, blue), matrix_from_xyz((x, y, z), D50_XYZ))
    except (KeyError, IndexError, ValueError, struct.error):
        return None


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """The profile's tags by their signatures."""
    (count,) = struct.unpack_from(">I", profile, _HEADER_BYTES)
    tags: dict[bytes, bytes] = {}
    for at in range(min(count, _MAX_TAGS)):
        entry = struct.unpack_from(">4sII", profile, _HEADER_BYTES + 4 + 12 * at)
        name, offset, size = entry
        tags[name] = profile[offset : offset + size]
    return tags


def _xyz(tag: bytes) -> Vector:
    if tag[:4] != b"XYZ ":
        raise ValueError("not a colour")
    x, y, z = struct.unpack_from(">3i", tag, 8)
    return x / 65536, y / 65536, z / 65536


def _curve(tag: bytes) -> Curve:
    """The curve of a `curv` or `para` tag. Raises ValueError for any other."""
    if tag[:4] == b"curv":
        return _table(tag)
    if tag[:4] == b"para":
        return _formula(tag)
    raise ValueError("not a curve")


def _table(tag: bytes) -> Curve:
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return power(1.0)
    if count == 1:
        return power(struct.unpack_from(">H", tag, 12)[0] / 256)
    light = np.frombuffer(tag, ">u2", count, 12) / 65535
    places = np.linspace(0, 1, count)
    return lambda values: np.interp(values, places, light)


def _formula(tag: bytes) -> Curve:
    """One of the five parametric curves, all as (a x + b)^g + e from d on, and c x + f below it."""
    (kind,) = struct.unpack_from(">H", tag, 8)
    count = (1, 3, 4, 5, 7)[kind]
    g, *rest = (number / 65536 for number in struct.unpack_from(f">{count}i", tag, 12))
    a, b, c, d, e, f = {
        0: lambda: (1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        1: lambda: (rest[0], rest[1], 0.0, -rest[1] / rest[0], 0.0, 0.0),
        2: lambda: (rest[0], rest[1], 0.0, -rest[1] / rest[0], rest[2], rest[2]),
        3: lambda: (*rest, 0.0, 0.0),
        4: lambda: tuple(rest),
    }[kind]()

    def curve(values: Floats) -> Floats:
        powered = np.maximum(a * values + b, 0) ** g + e
        return np.clip(np.where(values >= d, powered, c * values + f), 0, 1)

    return curve
