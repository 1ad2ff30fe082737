"""Names that the program gives to its own folders on disk."""

from __future__ import annotations

import re
from pathlib import Path

CLAIMS = ".dna"
"""Folder in an inbox that holds what was taken in; hidden, so no scan enters it."""

_ID = re.compile("[0-9a-f]{32}")
_TRASH = re.compile("trash-[0-9a-f]{8}")


def is_id(name: str) -> bool:
    """Whether a folder of that name can be a job's or a drop's."""
    return _ID.fullmatch(name) is not None


def is_trash(name: str) -> bool:
    """Whether it is the name of a folder of the outbox that was being removed."""
    return _TRASH.fullmatch(name) is not None


def is_real_folder(path: Path) -> bool:
    """True of a folder, False of a link to one."""
    return path.is_dir() and not path.is_symlink()
