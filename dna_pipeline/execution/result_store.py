"""Results of stages that later jobs may take, in a folder below the data folder.

    kept/<first two digits>/<key>/              entry.json, then the files by their numbers: 0, 1, …
    kept/requests/<first two digits>/<request>  the key of the entry that a request was answered by

An entry appears whole, by one rename, or not at all. Whoever takes one gets copies whose hashes
were compared, so an entry may be damaged, as by a power cut, or be removed at any time. A file that
is kept shares its bytes with the work folder, which is removed once its job is published.
The time of entry.json is that of its last use. Any process may read, write and remove at once.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import (
    copy_file,
    is_temporary,
    link_or_copy,
    read_json,
    remove_tree,
    remove_tree_if_there,
    sha256_file,
    temporary_name,
)
from dna_pipeline.base.layout import entries, folders_in

ALL = "all"
"""The word for a result that is taken whole, beside the names of parts."""

FREE_BYTES = 1 << 30
"""Space that the store leaves free on its disk, so that it never makes a job wait for space."""

_ENTRY = "entry.json"
_REQUESTS = "requests"
_PREFIX = 2
"""Digits of a key that are the name of its folder, so that no folder holds very many."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class KeptEntry:
    """An entry as cleanup sees it: `used` is the time of its last use, in seconds since 1970."""

    path: Path
    bytes: int
    used: float


class ResultStore:
    """The store in one folder, which is made when the first entry is.

    Args:
        free_bytes: space to leave free on the disk.
    """

    def __init__(self, root: Path, free_bytes: int = FREE_BYTES) -> None:
        self._root = root
        self._free_bytes = free_bytes

    # --- taking ---

    def take(self, key: str, folder: Path) -> dict[str, Any] | None:
        """Copy an entry's files into an existing folder; give the facts that were kept with them.

        None if there is no such entry, or it is damaged and was removed, or its files cannot be
        copied; the folder then has none of them.
        """
        made: list[Path] = []
        try:
            if (entry := self._read(key)) is None:
                return None
            for number, (name, sha256) in enumerate(entry.files):
                target = folder / name
                made.append(target)
                copy_file(entry.path / str(number), target)
                _require(sha256_file(target) == sha256)
            _note_use(entry.path)
            failpoint("result-taken")
        except (OSError, _Damaged) as error:
            for path in made:
                path.unlink(missing_ok=True)
            self._give_up(key, error)
            return None
        return entry.facts

    def read(self, key: str) -> tuple[dict[str, Any], bytes] | None:
        """The facts and the bytes of an entry of one file; None as for `take`."""
        try:
            if (entry := self._read(key)) is None:
                return None
            _require(len(entry.files) == 1)
            data = (entry.path / "0").read_bytes()
            _require(hashlib.sha256(data).hexdigest() == entry.files[0][1])
            _note_use(entry.path)
        except (OSError, _Damaged) as error:
            self._give_up(key, error)
            return None
        return entry.facts, data

    def has(self, key: str) -> bool:
        """True if there is such an entry, whole or damaged."""
        return self._path(key).is_dir()

    def has_request(self, request: str) -> bool:
        """True if the entry is there that was noted for a request."""
        try:
            return self.has(self._request_path(request).read_text("ascii"))
        except (OSError, ValueError):
            return False

    def note_request(self, request: str, key: str) -> None:
        """Note the entry that answers a request, for estimates: a note may get lost."""
        path = self._request_path(request)
        with suppress(OSError):
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(key, "ascii")

    def requests(self) -> Iterator[Path]:
        """The notes of all requests."""
        for name in folders_in(self._root / _REQUESTS):
            yield from entries(self._root / _REQUESTS / name)

    def remove_note_if_stale(self, path: Path) -> None:
        """Remove the note of a request whose entry is gone."""
        with suppress(OSError):
            if not self.has_request(path.name):
                path.unlink()

    def _read(self, key: str) -> _Entry | None:
        """The entry, with its files not looked at yet. Raises `_Damaged` or OSError."""
        path = self._path(key)
        if not path.is_dir():
            return None
        record = read_json(path / _ENTRY) or {}
        facts, files = record.get("facts"), record.get("files")
        if not isinstance(facts, dict) or not isinstance(files, list):
            raise _Damaged
        pairs = [_file_of(file) for file in cast("list[Any]", files)]
        return _Entry(path, cast("dict[str, Any]", facts), pairs)

    def _give_up(self, key: str, error: Exception) -> None:
        """Remove a damaged entry; leave one whose copy had no room."""
        import structlog  # not above: commands that only look at the queue load no logging

        log = structlog.get_logger()
        if isinstance(error, OSError) and error.errno in _FULL:
            log.warning("result.not_taken", key=key, why=error.strerror)
            return
        log.warning("result.damaged", key=key, why=str(error))
        with suppress(OSError):
            self.remove(self._path(key))

    # --- keeping ---

    def keep(self, key: str, facts: dict[str, Any], files: Sequence[tuple[Path, str]]) -> None:
        """Keep files, each with its SHA-256, and facts about them as plain JSON values. Nobody
        writes to the files any more; they may be removed.

        Nothing is done if there is such an entry.

        Raises:
            OSError: the files cannot be written, or would leave too little space; nothing of them
                is left.
        """
        if self.has(key):
            return
        self._require_room(sum(path.stat().st_size for path, _ in files))
        temporary = self._root / temporary_name()
        temporary.mkdir(parents=True)
        try:
            for number, (path, _) in enumerate(files):
                link_or_copy(path, temporary / str(number))
            self._finish(key, facts, [(path.name, sha256) for path, sha256 in files], temporary)
        except BaseException:
            remove_tree(temporary, ignore_errors=True)
            raise

    def keep_bytes(self, key: str, facts: dict[str, Any], name: str, data: bytes) -> None:
        """`keep` for one file whose bytes are in memory."""
        if self.has(key):
            return
        self._require_room(len(data))
        temporary = self._root / temporary_name()
        temporary.mkdir(parents=True)
        try:
            (temporary / "0").write_bytes(data)
            self._finish(key, facts, [(name, hashlib.sha256(data).hexdigest())], temporary)
        except BaseException:
            remove_tree(temporary, ignore_errors=True)
            raise

    def _finish(
        self, key: str, facts: dict[str, Any], files: list[tuple[str, str]], temporary: Path
    ) -> None:
        """Write the record, and give the entry its name.

        Nothing waits for the disk: after a power cut, hashes show what is not whole.
        """
        record = {"facts": facts, "files": [{"name": name, "sha256": s} for name, s in files]}
        (temporary / _ENTRY).write_text(json.dumps(record), "utf-8")
        failpoint("result-copied")
        path = self._path(key)
        path.parent.mkdir(exist_ok=True)
        try:
            temporary.rename(path)
        except OSError:
            if not self.has(key):
                raise
            remove_tree(temporary, ignore_errors=True)  # another worker was faster
        failpoint("result-kept")

    def _require_room(self, size: int) -> None:
        place = next(path for path in (self._root, *self._root.parents) if path.exists())
        free = shutil.disk_usage(place).free
        if free < self._free_bytes + size:
            least = self._free_bytes >> 20
            raise OSError(errno.ENOSPC, f"only {free >> 20} MiB are free, and {least} stay so")

    # --- cleanup ---

    def entries(self) -> Iterator[KeptEntry]:
        """All entries, in no order. One that is removed meanwhile is left out."""
        for name in folders_in(self._root):
            for path in entries(self._root / name) if len(name) == _PREFIX else ():
                with suppress(OSError):
                    sizes = [file.stat().st_size for file in path.iterdir()]
                    record = path / _ENTRY
                    used = (record if record.exists() else path).stat().st_mtime
                    yield KeptEntry(path, sum(sizes), used)

    def free_bytes_lacking(self) -> int:
        """Bytes by which the disk has less free space than the store leaves; 0 if it has enough."""
        with suppress(OSError):
            return max(0, self._free_bytes - shutil.disk_usage(self._root).free)
        return 0

    def remove(self, path: Path) -> None:
        """Remove an entry. Its name goes first, so that nobody finds half of it."""
        trash = self._root / temporary_name()
        try:
            path.rename(trash)
        except FileNotFoundError:
            return
        remove_tree(trash, ignore_errors=True)

    def remove_temporaries(self, older_than_s: float = 0.0) -> None:
        """Remove what processes left that were killed while they kept or removed an entry."""
        for name in filter(is_temporary, folders_in(self._root)):
            with suppress(OSError):
                if time.time() - (self._root / name).stat().st_mtime >= older_than_s:
                    remove_tree_if_there(self._root / name)

    def _path(self, key: str) -> Path:
        return self._root / key[:_PREFIX] / key

    def _request_path(self, request: str) -> Path:
        return self._root / _REQUESTS / request[:_PREFIX] / request


class _Damaged(Exception):
    """An entry is not what was kept."""

    def __str__(self) -> str:
        return "its files are not those that were kept"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A record: facts, and name and SHA-256 of each file."""

    path: Path
    facts: dict[str, Any]
    files: list[tuple[str, str]]


def _file_of(record: Any) -> tuple[str, str]:
    try:
        name, sha256 = str(record["name"]), str(record["sha256"])
    except (KeyError, TypeError):
        raise _Damaged from None
    _require(name == Path(name).name and name not in ("", ".", ".."))
    return name, sha256


def _require(is_whole: bool) -> None:
    if not is_whole:
        raise _Damaged


def _note_use(path: Path) -> None:
    with suppress(OSError):
        os.utime(path / _ENTRY)
