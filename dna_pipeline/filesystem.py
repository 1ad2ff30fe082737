"""What the operating system says of file systems, and one flush for many files."""

from __future__ import annotations

import ctypes
import os
import re
import stat
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

_FLUSHED_WHOLE = frozenset("ext2 ext3 ext4 xfs btrfs f2fs tmpfs".split())  # noqa: SIM905
"""Where `syncfs` is known to do for every file and folder what fsync does for one."""

_NAME_SURROGATE = 0x2000_0000
"""Bit of a Windows reparse tag that says that the file or folder stands for another one."""


def is_link(status: os.stat_result) -> bool:
    """True for the lstat of a symbolic link, or of a junction or volume mount point on Windows.

    Windows' junctions are no symbolic links to Python: they read as plain folders, and may lead out
    of the folder that they lie in, or in circles.
    """
    tag: int = getattr(status, "st_reparse_tag", 0)
    return stat.S_ISLNK(status.st_mode) or bool(tag & _NAME_SURROGATE)


def type_of(folder: Path) -> str:
    """Type of the file system that holds the folder, "" where the system does not tell."""
    try:
        table = Path("/proc/self/mounts").read_text(errors="surrogateescape")
    except OSError:
        return ""
    return find_type(os.path.realpath(folder), table)


def find_type(path: str, table: str) -> str:
    """Type of the file system that holds `path`, from the text of /proc/self/mounts."""
    kind, length = "", -1
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[1])
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= length:
            kind, length = fields[2], len(mount)
    return kind


@contextmanager
def flush_of_all(folder: Path) -> Generator[Callable[[], None] | None]:
    """Gives what makes everything durable that was written meanwhile to the folder's file system.

    One such flush costs about as much as the fsync of a few files. It gives None where there is
    none; the call itself raises OSError if anything could not be written.
    """
    if sys.platform != "linux" or type_of(folder) not in _FLUSHED_WHOLE:
        yield None
        return
    # Opened before the writing: errors are told to descriptors that were open when they happened.
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield lambda: _syncfs(fd)
    finally:
        os.close(fd)


def _syncfs(fd: int) -> None:
    if _libc().syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)
