"""The folder of a result as a ZIP archive, made while it is sent: nothing of it lies on the disk or
as a whole in memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath

from dna_pipeline.base.naming import numbered, safe_name
from dna_pipeline.config.schema import Config
from dna_pipeline.operations.serving.readers import Readers
from dna_pipeline.operations.serving.result_files import (
    NoSuchFile,
    ResultFile,
    find_file,
    list_files,
)

CHUNK_BYTES = 1 << 20
_ZIP64_BYTES = 1 << 31
_FIRST_YEAR = 1980
"""Archives know no earlier one."""

Edit = Callable[[ResultFile], bytes | None]
"""Gives other content for a file; None: it is sent as it is."""


def find_files(config: Config, readers: Readers, job_id: str) -> list[tuple[str, ResultFile]]:
    """Find the files of a job's folder that are there, each with its name in the archive.

    Args:
        job_id: the whole id.

    Raises:
        NoSuchFile: there is none.
        ConfigError: the ledger cannot be read.
    """
    files: list[tuple[str, ResultFile]] = []
    missing: NoSuchFile | None = None
    with readers.lend() as queries:
        if queries.find(job_id) != job_id:
            raise NoSuchFile(f"there is no job {job_id[:32]!r}")
        for listed in list_files(queries.job(job_id)):
            try:
                files.append((listed.path, find_file(config, queries, job_id, path=listed.path)))
            except NoSuchFile as error:
                missing = error
    if not files:
        raise missing or NoSuchFile(f"job {job_id[:8]} has no files in the outbox yet")
    names = _names([path for path, _ in files])
    return [(name, file) for name, (_, file) in zip(names, files, strict=True)]


def archive_name(name: str, job_id: str) -> str:
    """Name of the archive without its ending, and of the folder in it."""
    return f"{safe_name(PurePosixPath(name).stem)}-{job_id[:8]}"


def archive(
    folder: str, files: Sequence[tuple[str, ResultFile]], edit: Edit
) -> Generator[bytes, None, None]:
    """Yield the archive in pieces. The files are stored as they are: pictures, films and meshes
    would hardly become smaller.

    Raises:
        NoSuchFile, OSError: a file went meanwhile. The archive has no end then, so that nobody
            takes it for a whole one.
    """
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED) as made:  # pyright: ignore[reportArgumentType]
        for name, file in files:
            info = zipfile.ZipInfo(f"{folder}/{name}", _time(file))
            info.external_attr = 0o644 << 16
            other = edit(file)
            if other is not None:
                made.writestr(info, other)
                yield pieces.take()
                continue
            is_large = file.bytes >= _ZIP64_BYTES
            with file.open() as source, made.open(info, "w", force_zip64=is_large) as target:
                while data := source.read(CHUNK_BYTES):
                    target.write(data)
                    yield pieces.take()
            yield pieces.take()
    yield pieces.take()


class _Pieces(io.RawIOBase):
    """A file that is read as it is written, and never goes back."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """Give what was written since the last time."""
        data, self._pieces = b"".join(self._pieces), []
        return data


def _names(paths: Sequence[str]) -> list[str]:
    """Names that are safe on every system, and each once even where case does not count."""
    used: set[str] = set()
    names: list[str] = []
    for path in paths:
        *folders, last = PurePosixPath(path).parts
        safe = PurePosixPath(*map(safe_name, folders), _safe_file(last))
        stems = numbered(safe.stem)
        while (name := str(safe.with_stem(next(stems)))).casefold() in used:
            pass
        used.add(name.casefold())
        names.append(name)
    return names


def _safe_file(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return f"{safe_name(stem)}.{safe_name(ending)}" if stem and dot and ending else safe_name(name)


def _time(file: ResultFile) -> tuple[int, int, int, int, int, int]:
    at = datetime.fromtimestamp(max(file.stat.st_mtime, 0), UTC)
    return (max(at.year, _FIRST_YEAR), at.month, at.day, at.hour, at.minute, at.second)
