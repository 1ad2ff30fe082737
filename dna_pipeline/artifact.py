"""Files that outlive the process: safe names, hashes, atomic writes, publishing renames.

Whatever is written here appears whole or not at all: a temporary name in the same folder, fsync,
one rename, fsync of the folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

STEM_BYTES = 120
"""Longest stem: leaves room for the job's id, a stage's id and the longest suffix in 255 bytes."""

_UNSAFE = re.compile(
    r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*]'  # controls, and what paths and Windows give a meaning
    "|[\ud800-\udfff\ufdd0-\ufdef\ufff9-\uffff]"  # what UTF-8 or a file system cannot hold
    "|[\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]"  # unseen; turns text round
)
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?")
_TEMPORARY = re.compile(r"\.\d+-[0-9a-f]{16}\.tmp")
_FICLONE = 0x40049409


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a stage made.

    Attributes:
        path: where it lies now; its name is its name in the result folder.
        role: image, matte, mesh, preview, turntable, texture or material.
        media_type: as registered with IANA.
        facts: what else the manifest tells of it, as plain JSON values.
    """

    path: Path
    role: str
    media_type: str
    facts: dict[str, Any] = field(default_factory=dict[str, Any])


def safe_name(name: str) -> str:
    """`name` made valid on every common file system; never empty, at most `STEM_BYTES` bytes.

    Composed (NFC), without control, direction and path characters, without leading dots or
    trailing dots and spaces, and not one of the device names that Windows reserves.
    """
    text = _cut(_UNSAFE.sub("_", unicodedata.normalize("NFC", name)).lstrip(". "))
    if _RESERVED.fullmatch(text):
        text = _cut(f"_{text}")
    return text or "unnamed"


def _cut(text: str) -> str:
    return text.encode()[:STEM_BYTES].decode("utf-8", "ignore").rstrip(". ")


def visible(text: str) -> str:
    """Text that cannot steer a terminal: what is not to be printed is shown by its number."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def safe_stem(file_name: str) -> str:
    """The safe form of a file's name without its last extension."""
    return safe_name(Path(file_name).stem)


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_dir(path: Path) -> None:
    """Make renames in that folder durable, where the system has a call for it.

    Windows has none; some network file systems refuse theirs.
    """
    if sys.platform == "win32":
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def fsync_tree(root: Path) -> None:
    """Make every file and folder below `root` durable, leaves first; links are not followed."""
    for folder, _, names in os.walk(root, topdown=False, onerror=_raise):
        for name in names:
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode):
                _fsync_file(path)
        fsync_dir(Path(folder))


def _raise(error: OSError) -> None:
    raise error


def _fsync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a new file, then put it at `path` by one rename, durably."""
    temporary = path.with_name(f".{os.getpid()}-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def is_temporary(name: str) -> bool:
    """Whether `write_atomic` gives its files such names until they are whole."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_temporaries(folder: Path) -> None:
    """Clear away what `write_atomic` left right in that folder where its process was killed."""
    for path in folder.glob(".*.tmp"):
        if is_temporary(path.name):
            path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """`write_atomic` for bytes at hand."""
    write_atomic(path, lambda file: file.write(data))


def copy_file(source: Path, target: Path) -> None:
    """Copy the bytes, sharing the blocks where the file system can (never a hard link).

    A hard link would let whoever still holds the source open write into the copy. What cannot be
    copied whole leaves nothing behind.

    Raises:
        FileExistsError: something is at `target`; it stays as it is.
    """
    with source.open("rb") as reader, target.open("xb") as writer:
        try:
            if not _clone(reader.fileno(), writer.fileno()):
                shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        except BaseException:
            writer.close()
            target.unlink(missing_ok=True)
            raise
    with contextlib.suppress(OSError):  # times and modes; not every file system takes them
        shutil.copystat(source, target)


def _clone(reader: int, writer: int) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(writer, _FICLONE, reader)
    except OSError:
        return False
    return True


def rename_new(source: Path, target: Path) -> None:
    """Rename a folder to a name that must be free; durable when it returns.

    A bare rename silently replaces an empty folder, so the name is looked at first.

    Raises:
        FileExistsError: something is at `target`.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)
    fsync_dir(target.parent)
