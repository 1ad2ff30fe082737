"""Files of finished stages on their way back: failure folder → claim of the retry → work folder.

`retry` copies them into the new claim, which belongs to a drop that the ledger knows, so that no
cleanup removes them before the retry is committed. The daemon moves them on to the work folder.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import copy_file, fsync_dir, remove_tree, sha256_file

KEPT = ".stages"
"""Folder in a claim with one folder for each stage."""


def keep(folder: Path, claim: Path, stages: Iterable[tuple[str, Mapping[str, str]]]) -> list[str]:
    """Copy the stages' files into the claim, up to the first stage that is not whole.

    A later stage was made from the files of those before it. The caller makes the claim durable.

    Args:
        folder: where the files lie: the failure folder of the job.
        stages: id of each stage, with the SHA-256 of its files by name.

    Returns:
        The ids of the stages that were copied.
    """
    kept: list[str] = []
    for stage_id, files in stages:
        target = claim / KEPT / stage_id
        if not files or not _copy(folder, target, files):
            remove_tree(target, ignore_errors=True)
            break
        kept.append(stage_id)
    return kept


def _copy(folder: Path, target: Path, files: Mapping[str, str]) -> bool:
    """Copy files of these hashes; False if one is missing or was changed."""
    if not all((folder / name).is_file() for name in files):
        return False
    target.mkdir(parents=True)
    for name, sha256 in files.items():
        copy_file(folder / name, target / name)
        if sha256_file(target / name) != sha256:
            return False
    return True


def restore(claim: Path, work_dir: Path) -> None:
    """Move the kept files to the work folder; nothing where there are none.

    Can be repeated after a crash. Raises OSError where the disk does not allow it.
    """
    kept = claim / KEPT
    if not kept.is_dir():
        return
    work_dir.mkdir(parents=True, exist_ok=True)
    for folder in sorted(kept.iterdir()):
        target = work_dir / folder.name
        if target.is_dir():
            remove_tree(target)
        _move(folder, target)
    fsync_dir(work_dir)
    kept.rmdir()
    failpoint("stages-restored")


def _move(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.move(folder, target)  # copies: the two lie on different file systems
