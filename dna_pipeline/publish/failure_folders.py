"""Removal of the failure folder of a retried job: only the job's own files are removed.

People put notes and corrected pictures into such folders, and change the files there. A file is the
job's own if error.json names it and it is unchanged, or if the new attempt has the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from dna_pipeline.base.files import fsync_dir, is_same_file, remove_file, sha256_file
from dna_pipeline.base.layout import SOURCE
from dna_pipeline.ledger.tables import Drop, Job
from dna_pipeline.publish import cancelled_rows
from dna_pipeline.publish.manifest import ERROR_NAME, ErrorReport
from dna_pipeline.publish.manifest_parts import originals_of
from dna_pipeline.publish.outbox import Outbox

TEXT_NAME = "ERROR.txt"


def remove_failure(
    outbox: Outbox, job: Job, drop: Drop, is_needed: Callable[[str], bool]
) -> Path | None:
    """Remove the failure folder of a retried job, if the folder at its path is that of the job.

    The call can be repeated after a crash: error.json, which identifies the folder, is removed
    last.

    Args:
        drop: drop of the new attempt; its claim holds copies of the image and the sidecar.
        is_needed: tells, by the path of an original in a folder that cancelled rows share, if
            another row needs it.

    Returns:
        The folder if files that are not the job's own stay in it; else None.
    """
    if (name := job.publish_name) is None:
        return None
    folder = outbox.folder(name)
    if cancelled_rows.is_shared(name):
        cancelled_rows.remove_row(folder, job.stem, job.id, is_needed)
        return None
    report = _report(folder / ERROR_NAME)
    if report is None or report.job.id != job.id:
        if report is None:
            _remove_if_empty(outbox, folder)  # people took all that was in it
        return None
    own = set(_own_files(folder, report, drop))
    if set(_files(folder)) <= own:
        outbox.remove(name)
        return None
    for path in sorted(own - {folder / ERROR_NAME}):
        remove_file(path, missing_ok=True)
    remove_file(folder / ERROR_NAME, missing_ok=True)
    fsync_dir(folder)
    _remove_if_empty(outbox, folder)
    return folder if folder.is_dir() else None


def _remove_if_empty(outbox: Outbox, folder: Path) -> None:
    """Remove the empty folders in a failure folder, and then itself if it holds no file."""
    below = [path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink()]
    for path in (*sorted(below, reverse=True), folder):
        with suppress(OSError):  # not empty, or gone
            path.rmdir()
    if not folder.is_dir():
        outbox.remove_empty_parent(folder)


def _report(path: Path) -> ErrorReport | None:
    try:
        return ErrorReport.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _files(folder: Path) -> Iterator[Path]:
    """List everything below the folder, except its own `source` folder."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir() or (path.parent, path.name) != (folder, SOURCE):
            yield path


def _own_files(folder: Path, report: ErrorReport, drop: Drop) -> Iterator[Path]:
    yield from (folder / ERROR_NAME, folder / TEXT_NAME)
    for artifact in report.artifacts:
        path = folder / artifact.path
        if path.is_file() and sha256_file(path) == artifact.sha256:
            yield path
    for name in originals_of(drop):
        if is_same_file(folder / SOURCE / name, Path(drop.claim, name)):
            yield folder / SOURCE / name
