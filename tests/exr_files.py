"""Small OpenEXR files for tests, and the bytes by which their light is shown."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR

SIDE = 20
RED = (188, 0, 0)
"""How red light of 0.5 is shown."""

Planes = Mapping[str, Any]
_START = b"\x76\x2f\x31\x01\2\0\0\0"


def red(layer: str = "", alpha: float | None = None) -> dict[str, Any]:
    return _flat((0.5, 0.0, 0.0), layer, alpha)


def green(layer: str = "") -> dict[str, Any]:
    return _flat((0.0, 1.0, 0.0), layer, None)


def numbers(*channels: str) -> dict[str, Any]:
    return dict.fromkeys(channels, 3.0)


def _flat(light: tuple[float, ...], layer: str, alpha: float | None) -> dict[str, Any]:
    prefix = f"{layer}." if layer else ""
    planes = {f"{prefix}{name}": value for name, value in zip("RGB", light, strict=True)}
    return planes if alpha is None else planes | {f"{prefix}A": alpha}


def write_exr(
    path: Path, planes: Planes, header: Mapping[str, Any] | None = None, kind: str = "f2"
) -> Path:
    """A file of one part; a number fills its plane. Copies, since OpenEXR writes into both."""
    OpenEXR.File(_header(header), _pixels(planes, kind)).write(str(path))
    return path


def write_parts(path: Path, *parts: tuple[Mapping[str, Any], Planes]) -> Path:
    made = [OpenEXR.Part(_header(header), _pixels(planes, "f2")) for header, planes in parts]
    OpenEXR.File(made).write(str(path))
    return path


def _header(header: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"type": OpenEXR.scanlineimage, **(header or {})}


def _pixels(planes: Planes, kind: str) -> dict[str, Any]:
    return {
        name: np.full((SIDE, SIDE), value, kind) if np.ndim(value) == 0 else np.array(value)
        for name, value in planes.items()
    }


def write_luminance_chroma(
    path: Path,
    planes: Mapping[str, np.ndarray],
    *,
    prefix: str = "",
    origin: tuple[int, int] = (0, 0),
    chromaticities: tuple[float, ...] = (),
) -> Path:
    """An uncompressed file of half planes, whose RY and BY have a sample at each second row and
    column; written byte by byte, since the library's Python module cannot write such a file."""
    height, width = planes["Y"].shape
    steps = {name: 2 if name in ("RY", "BY") else 1 for name in sorted(planes)}
    channels = b"".join(
        (prefix + name).encode() + b"\0" + struct.pack("<4i", 1, 0, step, step)
        for name, step in steps.items()
    )
    left, top = origin
    window = struct.pack("<4i", left, top, left + width - 1, top + height - 1)
    head = _START + b"".join(
        [
            _attribute("channels", "chlist", channels + b"\0"),
            _attribute("compression", "compression", b"\0"),
            _attribute("dataWindow", "box2i", window),
            _attribute("displayWindow", "box2i", window),
            _attribute("lineOrder", "lineOrder", b"\0"),
            _attribute("pixelAspectRatio", "float", struct.pack("<f", 1)),
            _attribute("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
            _attribute("screenWindowWidth", "float", struct.pack("<f", 1)),
            _attribute("chromaticities", "chromaticities", struct.pack("<8f", *chromaticities))
            if chromaticities
            else b"",
            b"\0",
        ]
    )
    rows: list[bytes] = []
    for row in range(height):
        lines = (planes[name][row // step] for name, step in steps.items() if row % step == 0)
        data = b"".join(line.astype("<f2").tobytes() for line in lines)
        rows.append(struct.pack("<ii", top + row, len(data)) + data)
    places = np.cumsum([len(head) + 8 * height, *(len(row) for row in rows[:-1])])
    path.write_bytes(head + places.astype("<u8").tobytes() + b"".join(rows))
    return path


def _attribute(name: str, kind: str, value: bytes) -> bytes:
    return f"{name}\0{kind}\0".encode() + struct.pack("<i", len(value)) + value


def shown(light: np.ndarray) -> np.ndarray:
    """The bytes of scene-linear Rec. 709 light, by IEC 61966-2-1, before they are rounded."""
    light = np.clip(np.asarray(light, np.float64), 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
