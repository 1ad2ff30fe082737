"""Names of the program's own folders on disk: in the data folder, the inboxes and the outbox."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dna_pipeline.base.naming import safe_name

CLAIMS = ".dna"
"""Folder in an inbox that holds its claims, in the outbox that of what is put together. Its name is
hidden, so no scan enters it."""

FAILED = "failed"
CANCELLED = "cancelled"
LATEST = "latest"
SOURCE = "source"
WILDCARDS = "wildcards"
"""Folder in the data folder for the wildcard files that prompts name."""
KEPT_RESULTS = "kept"
"""Folder in the data folder for the results of stages that later jobs may take."""
ATTEMPTS = "attempts"
"""Folder in the data folder, of a node of Ray too, for the files of attempts at jobs there."""
SHEET = "sheet"
"""Folder of the files of a contact sheet, beside its page."""
BATCH_REPORT = "batch.csv"
STATUS = "status.json"
"""File in the outbox in which the daemon says what it is at, from its start on."""
SHEET_PAGE = "index.html"
SHEET_PICTURE = "sheet.png"
_RESERVED = (FAILED, CANCELLED, LATEST)

_ID = re.compile("[0-9a-f]{32}")
_TRASH = re.compile("trash-[0-9a-f]{8}")


def is_id(name: str) -> bool:
    """True if the name has the form of a job's or a drop's id."""
    return _ID.fullmatch(name) is not None


def is_ledger_id(name: str) -> bool:
    """True if the name is that of a ledger's folder."""
    return re.fullmatch("[0-9a-f]{12}", name) is not None


def is_trash(name: str) -> bool:
    """True if the name is that of an outbox folder whose removal has begun."""
    return _TRASH.fullmatch(name) is not None


def is_real_folder(path: Path) -> bool:
    """True for a folder, False for a link to one."""
    return path.is_dir() and not path.is_symlink()


def entries(folder: Path) -> list[Path]:
    """List a folder, sorted; empty if it is no folder or cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def folders_in(folder: Path) -> list[str]:
    """List the names of real folders in a folder, sorted; none if it is missing. Raises OSError."""
    try:
        with os.scandir(folder) as scanner:
            return sorted(entry.name for entry in scanner if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


# --- claims ---


def claim_root(inbox: Path, ledger_id: str) -> Path:
    """Return the folder of a ledger's claims in an inbox."""
    return inbox / CLAIMS / ledger_id


def claim_dir(inbox: Path, ledger_id: str, drop_id: str) -> Path:
    """Return the claim of a drop: the folder of its files."""
    return claim_root(inbox, ledger_id) / drop_id


def claim_roots(inbox: Path) -> list[Path]:
    """Return the folders of all ledgers in an inbox, or in an outbox, sorted."""
    return [inbox / CLAIMS / name for name in folders_in(inbox / CLAIMS) if is_ledger_id(name)]


# --- the outbox ---


def mirrored(folder: str) -> str:
    """Give the outbox's name for a subfolder of an inbox: with safe names, and a `_` behind a first
    part that is reserved."""
    first, *rest = (safe_name(part) for part in folder.split("/"))
    return "/".join([f"{first}_" if first.casefold() in _RESERVED else first, *rest])


def place_below(folder: str, batch_folder: str) -> str:
    """Give the path of an inbox's folder in a batch's source folder; "" for the batch's own."""
    below = Path(os.path.relpath(folder or ".", batch_folder or "."))
    parts = ["_" if part == ".." else safe_name(part) for part in below.parts]
    return "/".join(parts)


def inbox_folder(inbox: str, folder: str) -> str:
    """Give the outbox's folder for the results of images from that folder of an inbox."""
    return f"{inbox}/{mirrored(folder)}" if folder else inbox


def batch_folder(inbox: str, folder: str, stem: str, batch_id: str) -> str:
    """Give the outbox's folder for the results of a batch that was dropped in `folder`."""
    return f"{inbox_folder(inbox, folder)}/{stem}-{batch_id[:8]}"
