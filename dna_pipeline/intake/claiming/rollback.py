"""Gives back to an inbox what was claimed and is not to be taken in after all."""

from __future__ import annotations

import errno
import filecmp
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dna_pipeline.base.files import remove_file
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.discovery.scan import FileStat


def return_files(
    folder: Path, inbox: Path, home: str, stat: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Return a claim's files to the inbox, never over what lies there by now.

    Args:
        home: the folder in the inbox for files that are not in `stat`.
        stat: what was seen of the files, by the paths that they had.
    """
    if not folder.is_dir():
        return
    paths = {path.rpartition("/")[2]: path for path in stat}
    for file in folder.iterdir():
        path = paths.get(file.name)
        original = inbox / (path or f"{home}/{file.name}".lstrip("/"))
        if path is not None and _is_copy(file, original, stat[path]):
            remove_file(file)
        else:
            claims.put_back(file, original)
    claims.dispose(folder)


def _is_copy(file: Path, original: Path, seen: Mapping[str, Any]) -> bool:
    """Whether it is the copy, perhaps cut off, of a sidecar that others need too."""
    if not original.is_file() or file.lstat().st_ino == original.lstat().st_ino:
        return False
    was_moved = FileStat.of(file.lstat()).same_file(FileStat(**seen))
    return not was_moved or filecmp.cmp(file, original, shallow=False)


def roll_back(
    config: Config, inbox: Inbox, row: Mapping[str, Any], discard: Callable[[Path], None]
) -> None:
    """Give back what a drop of a batch took; it may be nothing yet.

    Args:
        discard: deals with the folder of a copy, whose original was not moved.

    Raises:
        OSError: it cannot be now. What is on a disk that is away must not be forgotten: without its
        batch it would be taken for an image by itself when the disk comes back.
    """
    folder = Path(row["claim"])
    if folder.parent == config.claims:
        discard(folder)
    elif folder.is_dir():
        return_files(folder, inbox.path, row["folder"], row["stat"])
    elif _is_unmounted(inbox.path, row["stat"]):
        raise FileNotFoundError(errno.ENOENT, "its disk is away", str(folder))


def _is_unmounted(inbox: Path, stat: Mapping[str, Any]) -> bool:
    """Whether these files lie on a disk that is not mounted there now. Raises `OSError`."""
    if inbox.stat().st_dev in {seen["device"] for seen in stat.values()}:
        return False
    return not any(os.path.lexists(inbox / path) for path in stat)
