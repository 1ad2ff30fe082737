"""Files of finished stages for a retry: failure folder → claim of the retry → work folder.

`retry` copies them into the new claim. The ledger knows the drop of that claim, so no cleanup
removes the files before the retry is committed. The daemon then moves them to the work folder.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import copy_file, fsync_dir, remove_tree, sha256_file

STAGES_FOLDER = ".stages"
"""Folder in a claim that has one folder for each finished stage."""


def keep(folder: Path, claim: Path, stages: Iterable[tuple[str, Mapping[str, str]]]) -> list[str]:
    """Copy the stages' files into the claim, up to the first stage that is not complete.

    Each stage used the files of the stages before it, so none is copied after a gap. The caller
    makes the claim durable.

    Args:
        folder: the failure folder of the job, which holds the files.
        stages: id of each stage, with the SHA-256 of its files by name.

    Returns:
        The ids of the stages that were copied.
    """
    stage_ids: list[str] = []
    for stage_id, files in stages:
        target = claim / STAGES_FOLDER / stage_id
        if not files or not _copy(folder, target, files):
            remove_tree(target, ignore_errors=True)
            break
        stage_ids.append(stage_id)
    return stage_ids


def _copy(folder: Path, target: Path, files: Mapping[str, str]) -> bool:
    """Copy the files with these hashes; False if one is missing or has other bytes."""
    if not all((folder / name).is_file() for name in files):
        return False
    target.mkdir(parents=True)
    for name, sha256 in files.items():
        copy_file(folder / name, target / name)
        if sha256_file(target / name) != sha256:
            return False
    return True


def restore(claim: Path, work_dir: Path) -> None:
    """Move the stages' files from the claim to the work folder, if there are any.

    Can be repeated after a crash. Raises OSError if the disk refuses it.
    """
    source = claim / STAGES_FOLDER
    if not source.is_dir():
        return
    work_dir.mkdir(parents=True, exist_ok=True)
    for folder in sorted(source.iterdir()):
        target = work_dir / folder.name
        if target.is_dir():
            remove_tree(target)
        _move(folder, target)
    fsync_dir(work_dir)
    source.rmdir()
    failpoint("stages-restored")


def _move(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.move(folder, target)  # the two lie on different file systems, so this copies
