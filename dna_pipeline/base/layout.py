"""Names of the program's own folders on disk."""

from __future__ import annotations

import re
from pathlib import Path

CLAIMS = ".dna"
"""Folder in an inbox that holds its claims. Its name is hidden, so no scan enters it."""

_ID = re.compile("[0-9a-f]{32}")
_TRASH = re.compile("trash-[0-9a-f]{8}")


def is_id(name: str) -> bool:
    """True if the name has the form of a job's or a drop's id."""
    return _ID.fullmatch(name) is not None


def is_trash(name: str) -> bool:
    """True if the name is that of an outbox folder whose removal has begun."""
    return _TRASH.fullmatch(name) is not None


def is_real_folder(path: Path) -> bool:
    """True for a folder, False for a link to one."""
    return path.is_dir() and not path.is_symlink()
