"""Files of results, found by their job: the only files that a server hands out.

A request names a file as the job's result folder has it. It is compared with the names that the
ledger knows of that job, so that no text of a request becomes a path. The file itself is opened
below the outbox, one folder after the other, and no link is followed on the way.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from dna_pipeline.base.errors import DnaError
from dna_pipeline.base.files import INTERMEDIATE, open_to_read
from dna_pipeline.base.layout import SOURCE
from dna_pipeline.base.naming import printable, sidecar_name
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.publish import cancelled_rows
from dna_pipeline.publish.failure_folders import TEXT_NAME
from dna_pipeline.publish.manifest import ERROR_NAME
from dna_pipeline.publish.manifest import NAME as MANIFEST_NAME
from dna_pipeline.stages import companions

Record = Mapping[str, Any]

MANIFEST, ERROR, ERROR_TEXT = "manifest", "error", "error_text"
REPORTS = frozenset({MANIFEST, ERROR, ERROR_TEXT})
"""Roles of the files in which the program says how the job went."""
ORIGINAL, SIDECAR = "original", "sidecar"

_MEDIA_TYPES = {
    ".csv": "text/plain", ".glb": "model/gltf-binary", ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg", ".json": "application/json", ".mp4": "video/mp4", ".mtl": "model/mtl",
    ".obj": "model/obj", ".ply": "model/ply", ".png": "image/png", ".stl": "model/stl",
    ".txt": "text/plain", ".webp": "image/webp", ".yaml": "text/plain", ".yml": "text/plain",
}  # fmt: skip
_OTHER = "application/octet-stream"
_FIRST = ".glb"
"""Ending of the file that a role means where it has files of several formats."""

_FOLDER = (
    os.O_RDONLY
    | getattr(os, "O_DIRECTORY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
)


class NoSuchFile(DnaError):
    """A job has no such file, or it is not in the outbox any more. The text says which."""


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file that a job's folder has, as the ledger knows it.

    Attributes:
        path: its path in the folder, as requests name it.
        role: that of the artifact; `manifest`, `error` or `error_text` of a report; `original` of
            the image that was dropped, `sidecar`, or that of a companion, such as `mask`.
        place: its path below the outbox.
        sha256, bytes: "" and None where the ledger does not know them.
        stage: the stage that made it; None if none did.
        facts: what the stage tells of it, such as the faces of a mesh.
    """

    path: str
    role: str
    place: str
    media_type: str
    sha256: str = ""
    bytes: int | None = None
    stage: str | None = None
    facts: Record = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file that is in the outbox.

    Attributes:
        path: its absolute path. It may be replaced by a link at any time, which `open` notices.
        sha256: as the ledger has it; "" if the ledger has none, or if the file has another size
            than the ledger says.
        bytes: its size now.
        name: its name for people; printable, without folders.
        role: as for `ListedFile`.
        stat: its status when it was found.
    """

    path: Path
    media_type: str
    sha256: str
    bytes: int
    name: str
    role: str
    outbox: Path = field(repr=False)
    stat: os.stat_result = field(repr=False)

    def open(self) -> FileIO:
        """Open the file to read. Raises `NoSuchFile` if it is gone or a link took its place."""
        try:
            return open_below(self.outbox, self.path.relative_to(self.outbox).parts)
        except OSError as error:
            raise NoSuchFile(f"{self.name} cannot be read ({error.strerror})") from None

    def read(self) -> bytes:
        """Read the whole file. Raises `NoSuchFile` as `open` does."""
        with self.open() as file:
            return file.readall()


def find_file(
    config: Config, queries: Queries, job_id: str, *, role: str | None = None,
    path: str | None = None,
) -> ResultFile:  # fmt: skip
    """Find a file of a job, by its path in the job's folder or by its role.

    Of several files with that role, it is the one of the last stage that has any, and among those a
    .glb or else the first. May wait for the disk, without end if the outbox is on a dead mount.

    Args:
        job_id: the whole id.

    Raises:
        NoSuchFile: there is no such job, it has no such file, or the file is not there any more.
    """
    if queries.find(job_id) != job_id:
        raise NoSuchFile(f"there is no job {job_id[:32]!r}")
    job = queries.job(job_id)
    file = _chosen(list_files(job), role, path)
    if file is None:
        what = f"no file {path!r}" if path is not None else f"no file with the role {role!r}"
        raise NoSuchFile(f"job {job_id[:8]} is {job['status']} and has {what}")
    if cancelled_rows.is_shared(job["publish_name"]):
        file = _in_shared_folder(config, job, file)
    return _opened(config, job, file)


def list_files(job: Record) -> list[ListedFile]:
    """List the files of a job's folder as the ledger knows them: artifacts, report, originals.

    Looks at no disk, so that a file may be gone.

    Args:
        job: as `Queries.job` gives it.
    """
    name = job["publish_name"]
    if job["publish"] != "done" or name is None:
        return []
    files = [*_artifacts(job, name), *_reports(job, name), *_originals(job, name)]
    by_path: dict[str, ListedFile] = {}
    for file in files:
        by_path.setdefault(file.path, file)
    return list(by_path.values())


def _artifacts(job: Record, folder: str) -> Iterator[ListedFile]:
    if cancelled_rows.is_shared(folder):
        return
    is_result = job["error"] is None
    for row in job["artifacts"]:
        if not (is_result and row["role"] == INTERMEDIATE):
            yield _listed(folder, row["path"], row["role"], row)


def _reports(job: Record, folder: str) -> Iterator[ListedFile]:
    facts = {"sha256": job["manifest_sha256"]}
    if job["error"] is None:
        yield _listed(folder, MANIFEST_NAME, MANIFEST, facts)
        return
    yield _listed(folder, ERROR_NAME, ERROR, facts)
    yield _listed(folder, TEXT_NAME, ERROR_TEXT, {})


def _originals(job: Record, folder: str) -> Iterator[ListedFile]:
    """List what was dropped, where the folder has it."""
    drop: Record = job["drop"]
    if job["error"] is None and drop["originals"] != "archive":
        return
    if drop["image"] is not None:
        yield _listed(folder, f"{SOURCE}/{drop['image']}", ORIGINAL, drop)
    sidecar = drop["sidecar"]
    if sidecar is None and job["request"] is not None:
        sidecar = sidecar_name(drop["image"] or "")
    if sidecar is not None:
        yield _listed(folder, f"{SOURCE}/{sidecar}", SIDECAR, {})
    for file in companions.of_job(drop["companions"], job["stages"]):
        yield _listed(folder, f"{SOURCE}/{file['name']}", file["role"], file)


def _listed(folder: str, path: str, role: str, facts: Record) -> ListedFile:
    media_type = media_type_of(path, facts.get("media_type"))
    return ListedFile(
        printable(path), role, f"{folder}/{path}", media_type, facts.get("sha256") or "",
        facts.get("bytes"), facts.get("stage_id"), facts.get("facts") or {},
    )  # fmt: skip


def media_type_of(name: str, recorded: str | None = None) -> str:
    """Media type of a file by its ending, or else the one that its stage recorded."""
    usual = _MEDIA_TYPES.get(PurePath(name).suffix.lower())
    is_usable = recorded is not None and re.fullmatch(r"[\w.+-]+/[\w.+-]+", recorded, re.ASCII)
    return usual or (recorded if is_usable and recorded else _OTHER)


def _chosen(files: Sequence[ListedFile], role: str | None, path: str | None) -> ListedFile | None:
    if path is not None:
        return next((file for file in files if file.path == path), None)
    of_role = [file for file in files if file.role == role]
    of_last = [file for file in of_role if file.stage == of_role[-1].stage]
    return next((file for file in of_last if file.path.endswith(_FIRST)), next(iter(of_last), None))


def _in_shared_folder(config: Config, job: Record, file: ListedFile) -> ListedFile:
    """Find the place of a file in a folder that several cancelled rows share."""
    name = job["publish_name"]
    row = cancelled_rows.find_row(config.outbox / name, job["stem"], job["id"])
    if row is None:
        raise _gone(job)
    place = {
        ERROR: row.manifest.name, ERROR_TEXT: cancelled_rows.TEXT_NAME,
        ORIGINAL: row.report.source, SIDECAR: row.request.name,
    }.get(file.role)  # fmt: skip
    if place is None:
        raise _gone(job)
    return replace(file, place=f"{name}/{place}")


def _opened(config: Config, job: Record, file: ListedFile) -> ResultFile:
    """Make sure that a file is there, by opening it. Raises `NoSuchFile`."""
    parts = PurePosixPath(file.place).parts
    try:
        with open_below(config.outbox, parts) as opened:
            status = os.fstat(opened.fileno())
    except OSError:
        raise _gone(job) from None
    size = status.st_size
    sha256 = file.sha256 if file.bytes in (None, size) else ""
    name = PurePosixPath(file.path).name
    path = config.outbox.joinpath(*parts)
    return ResultFile(path, file.media_type, sha256, size, name, file.role, config.outbox, status)


def _gone(job: Record) -> NoSuchFile:
    return NoSuchFile(
        f"the files of job {job['id'][:8]} are not all in their folder any more; somebody moved or "
        "removed them, or the outbox cannot be reached"
    )


def open_below(root: Path, parts: Sequence[str]) -> FileIO:
    """Open a regular file below a folder, following no link on the way.

    Raises:
        OSError: there is no such file, or a link or something else took the place of it or of one
            of its folders.
    """
    if not parts or any(part in ("", ".", "..") or "/" in part or "\0" in part for part in parts):
        raise FileNotFoundError(2, "no path of a file", "/".join(parts))
    file = _open_by_path(root, parts) if sys.platform == "win32" else _open_by_steps(root, parts)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileNotFoundError(2, "no file", parts[-1])
    return file


def _open_by_steps(root: Path, parts: Sequence[str]) -> FileIO:
    """Open each folder by the one before it, so that nothing can be put between two looks."""
    folder = os.open(root, _FOLDER & ~getattr(os, "O_NOFOLLOW", 0))
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        at = folder
        return FileIO(parts[-1], opener=lambda name, _: os.open(name, _READ, dir_fd=at))
    finally:
        os.close(folder)


_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def _open_by_path(root: Path, parts: Sequence[str]) -> FileIO:
    """Open a file where folders cannot be opened: its path without links must lie at its place."""
    path = root.joinpath(*parts)
    real = Path(os.path.realpath(root)).joinpath(*parts)
    if os.path.normcase(os.path.realpath(path)) != os.path.normcase(real):
        raise FileNotFoundError(2, "a link is in its path", parts[-1])
    return open_to_read(path)
