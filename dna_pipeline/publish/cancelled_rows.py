"""The folder that the cancelled rows of a batch share: each original once, two small files a row.

    <batch>/cancelled/CANCELLED.txt
                      <stem>-<job8>.json     the row's error.json, with the path of its original
                      <stem>-<job8>.yaml     the row's request; `retry` reads it
                      source/<folder>/<image>

Only rows that never finished a stage come here. All names follow from the job and its image, so
that a row can be written again after a crash.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath

from dna_pipeline.base.files import fsync_dir, remove_empty, remove_file, sha256_file
from dna_pipeline.base.layout import CANCELLED, SOURCE
from dna_pipeline.base.naming import free_names
from dna_pipeline.publish.manifest import ErrorReport, to_bytes
from dna_pipeline.publish.outbox import Outbox

TEXT_NAME = "CANCELLED.txt"


class CancelledRow(ErrorReport):
    """Manifest file of one row. `source`: its original, relative to the folder; null if lost."""

    source: str | None


@dataclass(frozen=True, slots=True)
class RowFiles:
    """Files of one row in the shared folder."""

    manifest: Path
    report: CancelledRow

    @property
    def request(self) -> Path:
        """Path of the row's request; the file may be missing."""
        return self.manifest.with_suffix(".yaml")

    @property
    def image(self) -> Path | None:
        source = self.report.source
        return None if source is None else self.manifest.parent / source


def is_shared(name: str) -> bool:
    """True if `name`, a job's `publish_name`, is a folder that cancelled rows share."""
    return PurePath(name).name == CANCELLED


def put_original(outbox: Outbox, name: str, file: Path, below: str) -> str:
    """Copy an original into the shared folder durably, unless it lies there already.

    Args:
        name: the shared folder, relative to the outbox.
        below: the subfolder of `source` that mirrors the original's folder; "" for none.

    Returns:
        Its path, relative to the shared folder.
    """
    sha256 = sha256_file(file)
    for candidate in free_names(file.name, first=2):
        place = PurePath(SOURCE, below, candidate)
        target = outbox.folder(name) / place
        if not target.exists():
            outbox.put(file, target)
        if sha256_file(target) == sha256:
            return place.as_posix()
    raise AssertionError("the names have no end")


def write_row(
    outbox: Outbox, name: str, stem: str, row: CancelledRow, request: bytes | None
) -> None:
    """Write a row's files durably, the manifest file last, since only that makes the row exist."""
    folder = outbox.folder(name)
    if not (folder / TEXT_NAME).exists():
        outbox.put(_text(row.job.batch or "").encode(), folder / TEXT_NAME)
    paths = _manifest_paths(folder, stem, row.job.id)
    path = next(p for p in paths if not p.exists() or _read(p, row.job.id) is not None)
    if request is not None:
        outbox.put(request, path.with_suffix(".yaml"))
    outbox.put(to_bytes(row), path)


def manifests(folder: Path) -> list[Path]:
    """List the manifest files of all rows in a shared folder."""
    return sorted(folder.glob("*.json"))


def find_row(folder: Path, stem: str, job_id: str) -> RowFiles | None:
    """Find the files of the row with that job; None if there are none."""
    for path in _manifest_paths(folder, stem, job_id):
        if (report := _read(path, job_id)) is not None:
            return RowFiles(path, report)
    return None


def remove_row(folder: Path, stem: str, job_id: str, is_needed: Callable[[str], bool]) -> None:
    """Remove a row that was retried, and the folder with its last row.

    The manifest file is removed after the original, so that an interrupted call can be repeated.

    Args:
        is_needed: tells, by the path of an original, if another row needs it.
    """
    if (row := find_row(folder, stem, job_id)) is not None:
        source = row.report.source
        if row.image is not None and source is not None and not is_needed(source):
            remove_file(row.image, missing_ok=True)
            remove_empty(row.image.parent, folder)
        remove_file(row.request, missing_ok=True)
        remove_file(row.manifest, missing_ok=True)
    with suppress(FileNotFoundError):
        with os.scandir(folder) as entries:  # two of thousands of entries are enough
            first = [entry.name for entry in islice(entries, 2)]
        if first == [TEXT_NAME]:
            (folder / TEXT_NAME).unlink()
        remove_empty(folder, folder.parent)
        fsync_dir(folder if folder.is_dir() else folder.parent)


def _manifest_paths(folder: Path, stem: str, job_id: str) -> list[Path]:
    """List the possible paths of a row's manifest file: the short one, then the one with the whole
    id, which no other job can have."""
    return [folder / f"{stem}-{end}.json" for end in (job_id[:8], job_id)]


def _read(path: Path, job_id: str) -> CancelledRow | None:
    """Read the manifest file at that path; None if it is missing or is another job's."""
    try:
        data = path.read_bytes()
        if json.loads(data)["job"]["id"] == job_id:
            return CancelledRow.model_validate_json(data)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _text(batch: str) -> str:
    return (
        "These rows were cancelled before they started.\n\n"
        "The folder source holds their originals; each .yaml file says what one row asked for.\n"
        "To run all of them after all:\n\n"
        f"  dna-pipeline retry --failed --batch {batch[:8]}\n\n"
        "To run one, give its id, the last part of its file's name:\n\n"
        "  dna-pipeline retry <id>\n"
    )
