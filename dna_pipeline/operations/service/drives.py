r"""Drive letters of Windows that are another machine's folders.

Such a letter exists only in the session of the person who made it, so a service does not see it.
Its UNC name, `\\server\share`, holds everywhere.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable

from dna_pipeline.base.errors import ConfigError

_DRIVE = re.compile(r"([A-Za-z]:)[\\/]")
_SHARE = re.compile(r"[\\/]{2}(?![?.][\\/])[^\\/]|[\\/]{2}\?[\\/]UNC[\\/]")
NAME_CHARS = 1024

Mapped = Callable[[str], str | None]
"""Gives the UNC name of a drive such as `Z:`; None for a drive of this machine."""


def refuse_mapped(places: Iterable[str], mapped: Mapped) -> None:
    """Raise `ConfigError` if a place lies on a network drive; it names the path to write."""
    for place in places:
        match = _DRIVE.match(place)
        if match and (share := mapped(match[1].upper())):
            rest = place[len(match[1]) :].replace("/", "\\")
            raise ConfigError(
                f"{place}: the drive {match[1].upper()} is a network share that only your own "
                f"session sees, and a service does not. Write {share.rstrip(chr(92))}{rest} instead"
            )


def first_share(places: Iterable[str]) -> str | None:
    """The first place that lies on another machine by its UNC name."""
    return next((place for place in places if _SHARE.match(place)), None)


def mapped_drive(drive: str) -> str | None:
    """Ask Windows what a drive letter stands for; None on other systems."""
    if sys.platform != "win32":
        return None
    import ctypes
    from ctypes import wintypes

    name = ctypes.create_unicode_buffer(NAME_CHARS)
    length = wintypes.DWORD(NAME_CHARS)
    failed = ctypes.windll.mpr.WNetGetConnectionW(drive, name, ctypes.byref(length))
    return None if failed else name.value
