"""Rollback: give claimed files back to their inbox if no job is to be made of them."""

from __future__ import annotations

import errno
import filecmp
import os
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dna_pipeline.base.files import is_start_of, is_temporary, remove_file
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.discovery.scan import FileStat


def names_of_copies(companions: Iterable[Mapping[str, Any]] | None) -> frozenset[str]:
    """Names of the companions in a claim that are copies, since jobs named them by their paths."""
    return frozenset(file["name"] for file in companions or () if file.get("reference"))


def return_files(
    folder: Path,
    inbox: Path,
    home: str,
    stat: Mapping[str, Any] = MappingProxyType({}),
    copies: Container[str] = (),
) -> None:
    """Return a claim's files to the inbox, never over files that lie there by now.

    Args:
        home: the folder in the inbox for files that are not in `stat`.
        stat: the files' status before the claim, by their paths in the inbox.
        copies: names of files whose originals were not moved.
    """
    if not folder.is_dir():
        return
    paths = {path.rpartition("/")[2]: path for path in stat}
    for file in folder.iterdir():
        path = paths.get(file.name)
        original = inbox / (path or f"{home}/{file.name}".lstrip("/"))
        is_copy = file.name in copies or is_temporary(file.name)
        if is_copy or (path is not None and _is_copy(file, original, stat[path])):
            remove_file(file)
        else:
            claims.put_back(file, original)
    claims.dispose(folder)


def _is_copy(file: Path, original: Path, before: Mapping[str, Any]) -> bool:
    """True if a claimed file is the copy of a sidecar that other images share.

    A copy that was cut off holds the first bytes of its original. A file with other bytes may be
    the last that there is of them, so it counts as no copy.
    """
    if not original.is_file() or file.lstat().st_ino == original.lstat().st_ino:
        return False
    if FileStat.of(file.lstat()).same_file(FileStat(**before)):
        return filecmp.cmp(file, original, shallow=False)
    return is_start_of(file, original)


def roll_back(
    config: Config, inbox: Inbox, row: Mapping[str, Any], discard: Callable[[Path], None]
) -> None:
    """Give back the files that a drop claimed; there may be none yet.

    Args:
        discard: disposes of the folder of a copy, whose original was not moved.

    Raises:
        OSError: the files cannot be returned now. A drop on a disk that is away must not be
        forgotten: nothing else knows from which folder its files came and which are copies, and
        without its batch its image would be claimed by itself when the disk is back.
    """
    folder = Path(row["claim"])
    if folder.parent == config.claims:
        discard(folder)
    elif folder.is_dir():
        return_files(
            folder, inbox.path, row["folder"], row["stat"], names_of_copies(row["companions"])
        )
    elif _is_unmounted(inbox.path, row["stat"]):
        raise FileNotFoundError(errno.ENOENT, "its disk is away", str(folder))


def _is_unmounted(inbox: Path, stat: Mapping[str, Any]) -> bool:
    """True if these files lie on a disk that is not mounted at the inbox now. Raises `OSError`.

    Absolute paths lead to source roots, which say nothing about the inbox. Nothing is known of the
    files of a claim that was found without its drop; it will be found again.
    """
    inside = {path: before for path, before in stat.items() if not Path(path).is_absolute()}
    if not inside or inbox.stat().st_dev in {before["device"] for before in inside.values()}:
        return False
    return not any(os.path.lexists(inbox / path) for path in inside)
