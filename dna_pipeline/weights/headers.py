"""The names and shapes of the tensors in a file, from its header alone.

Gigabytes are neither read nor mapped, no code in a pickle runs, and neither torch nor safetensors
is imported, so that a command can ask about each file in a moment. A file that is no weights at all
is recognised by its first bytes.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from dna_pipeline.weights import onnx_file, pickles
from dna_pipeline.weights.pickles import Shape

MAX_HEADER_BYTES = 100_000_000
"""Longest header that the safetensors format permits."""

_START_BYTES = 1024


class Format(StrEnum):
    """How the bytes of a file are to be read."""

    SAFETENSORS = "safetensors"
    PICKLE = "pickle"
    TORCHSCRIPT = "torchscript"
    ONNX = "onnx"
    GGUF = "gguf"
    WEB_PAGE = "web page"
    LFS_POINTER = "lfs pointer"
    TEXT = "text"
    ARCHIVE = "archive"
    IMAGE = "image"
    EMPTY = "empty"
    ZEROS = "zeros"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Header:
    """The facts in the header of a file.

    Attributes:
        tensors: shape of each tensor by its name; empty if the format holds none.
        damage: a clause that says how the file is damaged, such as "it has 5 of 9 bytes"; "" if
            nothing is known to be wrong.
        note: a fact about a file that is no weights: the size that an LFS pointer names, the
            first line of a text, the kind of an archive.
    """

    format: Format
    tensors: Mapping[str, Shape] = field(default_factory=dict[str, Shape])
    damage: str = ""
    note: str = ""


def read_header(path: Path) -> Header:
    """Read the header of a file. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(_START_BYTES)
        if not start:
            return Header(Format.EMPTY, damage="it has no bytes")
        if not any(start):
            return Header(Format.ZEROS, damage="it begins with zeros")
        if _is_safetensors(start):
            return _safetensors(file, size)
        if start.startswith(b"PK\x03\x04"):
            return _zip(path)
        if start.startswith(pickles.LEGACY_START):
            return _legacy_pickle(file)
        return _by_magic(start) or _onnx(file, size) or _text(start) or Header(Format.UNKNOWN)


# --- safetensors ---


def _is_safetensors(start: bytes) -> bool:
    return len(start) > 8 and start[8:9] == b"{" and _header_bytes(start) <= MAX_HEADER_BYTES


def _header_bytes(start: bytes) -> int:
    return struct.unpack("<Q", start[:8])[0]


def _safetensors(file: IO[bytes], size: int) -> Header:
    file.seek(0)
    length = _header_bytes(file.read(8))
    if 8 + length > size:
        return Header(Format.SAFETENSORS, damage=f"it ends within its header, at byte {size:,}")
    try:
        entries: dict[str, Any] = json.loads(file.read(length))
        tensors = {
            name: tuple(int(side) for side in entry["shape"])
            for name, entry in entries.items()
            if name != "__metadata__"
        }
        ends = [entry["data_offsets"][1] for n, entry in entries.items() if n != "__metadata__"]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return Header(Format.SAFETENSORS, damage="its header is not that of a safetensors file")
    expected = 8 + length + max(ends, default=0)
    damage = "" if size == expected else f"it has {size:,} of {expected:,} bytes"
    if size > expected:
        damage = f"it has {size:,} bytes, and its header tells of {expected:,}"
    return Header(Format.SAFETENSORS, tensors, damage)


# --- pickles ---


def _zip(path: Path) -> Header:
    try:
        with zipfile.ZipFile(path) as archive:
            return _in_archive(archive)
    except zipfile.BadZipFile:
        return Header(Format.PICKLE, damage="its end is missing")
    except (NotImplementedError, RuntimeError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return Header(Format.ARCHIVE, note="zip")


def _in_archive(archive: zipfile.ZipFile) -> Header:
    names = archive.namelist()
    inner = next((n for n in names if n.endswith("/data.pkl") and n.count("/") == 1), None)
    if inner is None:
        return Header(Format.ARCHIVE, note="zip")
    if inner.replace("data.pkl", "constants.pkl") in names:
        return Header(Format.TORCHSCRIPT)
    if archive.getinfo(inner).file_size > MAX_HEADER_BYTES:
        return Header(Format.PICKLE, damage="its list of tensors is too long")
    with archive.open(inner) as file:
        return _pickled(file, skip=0)


def _legacy_pickle(file: IO[bytes]) -> Header:
    """The format of torch before 1.6: three small pickles, then that of the tensors."""
    file.seek(0)
    return _pickled(file, skip=3)


def _pickled(file: IO[bytes], skip: int) -> Header:
    try:
        return Header(Format.PICKLE, pickles.read_shapes(file, skip))
    except pickles.UnreadablePickle as error:
        return Header(Format.PICKLE, damage=str(error))


# --- other formats ---

_MAGIC: tuple[tuple[bytes, Format, str], ...] = (
    (b"GGUF", Format.GGUF, ""),
    (b"\x1f\x8b", Format.ARCHIVE, "gzip"),
    (b"BZh", Format.ARCHIVE, "bzip2"),
    (b"7z\xbc\xaf\x27\x1c", Format.ARCHIVE, "7z"),
    (b"Rar!", Format.ARCHIVE, "rar"),
    (b"\xfd7zXZ\x00", Format.ARCHIVE, "xz"),
    (b"\x28\xb5\x2f\xfd", Format.ARCHIVE, "zstd"),
    (b"\x89PNG\r\n", Format.IMAGE, "PNG"),
    (b"\xff\xd8\xff", Format.IMAGE, "JPEG"),
    (b"version https://git-lfs.github.com/spec/", Format.LFS_POINTER, ""),
)
_ORT_MARK = b"ORTM"
"""Mark of a network in onnxruntime's own form of the format, which it loads as well."""

_WEB_STARTS = (b"<!doctype html", b"<html", b"<head", b"<body", b"<!--", b"<?xml")


def _by_magic(start: bytes) -> Header | None:
    for magic, kind, note in _MAGIC:
        if start.startswith(magic):
            return Header(kind, note=_lfs_size(start) if kind is Format.LFS_POINTER else note)
    if start[4:8] == _ORT_MARK:
        return Header(Format.ONNX)
    if start[257:262] == b"ustar":
        return Header(Format.ARCHIVE, note="tar")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return Header(Format.WEB_PAGE) if text.startswith(_WEB_STARTS) else None


def _lfs_size(start: bytes) -> str:
    """Number of bytes of the file that a pointer stands for; "" if it does not say."""
    for line in start.splitlines():
        word, _, number = line.partition(b" ")
        if word == b"size" and number.isdigit():
            return number.decode()
    return ""


def _onnx(file: IO[bytes], size: int) -> Header | None:
    model = onnx_file.examine(file, size)
    return None if model is None else Header(Format.ONNX, damage=model.damage)


def _text(start: bytes) -> Header | None:
    text = start.decode("utf-8", "ignore").strip()
    is_text = len(text.encode()) > 0.9 * len(start.strip()) and all(
        letter.isprintable() or letter in "\r\n\t" for letter in text
    )
    return Header(Format.TEXT, note=text.splitlines()[0][:60]) if text and is_text else None
