"""Remember the files that stay in an inbox: their last stats, and the drop that was made of them.

An inbox that keeps its originals is full of files that were claimed long ago, and any inbox may be
set to ignore the files that lay in it before it was watched.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dna_pipeline.config.tables import is_table_name
from dna_pipeline.intake.discovery.scan import FileStat, is_image_name
from dna_pipeline.ledger import drops
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger

RESERVED = "reserved"
"""The key of an image that a wrong row of a batch names. The image stays, and is not claimed alone;
the version's `error` is the reason."""

COMPANION = "companion"
"""The key of a file that a job named as a companion, such as its mask. Nothing at that path is
claimed by itself; the version's `error` is the reason."""

LEFT_ALONE = "lay there before the first watch (existing: ignore); save it again to have it made"
"""Reason for leaving a file alone that `existing: ignore` concerns."""

Stats = dict[str, FileStat]
"""Stats of the files of a drop, by their paths in the inbox."""


@dataclass(frozen=True, slots=True)
class Version:
    """The last version of a file, together with the other files of its drop.

    Attributes:
        stats: stats of all files of the drop.
        key: hash of its bytes and job specs (`Planner.version_key`); "" if the file was
            ignored unread.
        error: code of the error of its pairing; the reason if its key is `RESERVED`.
        drop_id: the drop that was made of it.
    """

    stats: Stats
    key: str = ""
    error: str | None = None
    drop_id: str | None = None


class KnownFiles:
    """Versions of an inbox's files by the `key_path` of their drops."""

    def __init__(self, inbox: str, ledger: Ledger | Queries) -> None:
        if isinstance(ledger, Queries):
            rows = ledger.known_files(inbox)
        else:
            rows = ledger.transact(lambda s: drops.known_files(s, inbox))
        self._versions: dict[str, _Packed] = {}
        for path, row in rows.items():
            stats = {name: FileStat(**stat) for name, stat in row.stat.items()}
            self._versions[path] = _pack(path, Version(stats, row.key, row.error, row.drop_id))

    def __contains__(self, path: str) -> bool:
        return path in self._versions

    def version(self, path: str) -> Version | None:
        """The last version at that path; None if there is none."""
        packed = self._versions.get(path)
        return None if packed is None else _unpack(path, packed)

    def reserved_reason(self, path: str) -> str | None:
        """Reason why an image is not claimed alone, if it is reserved for a batch; else None."""
        return self._reason(path, RESERVED)

    def companion_reason(self, path: str) -> str | None:
        """Reason why an image is no picture, if a job named it as a companion; else None."""
        return self._reason(path, COMPANION)

    def was_left(self, path: str) -> bool:
        """True if the file lay there before the first watch, with `existing: ignore`."""
        version = self.version(path)
        return version is not None and not version.key

    def count_left(self, folder: Path) -> int:
        """Count the images and tables below `folder`, the inbox's, that lay there before the first
        watch and were not saved again since. One `lstat` for each."""
        number = 0
        for path in self._versions:
            if self.was_left(path) and (is_image_name(path) or is_table_name(path)):
                with suppress(OSError):
                    number += self._is_old(path, FileStat.of((folder / path).lstat()))
        return number

    def _reason(self, path: str, key: str) -> str | None:
        version = self.version(path)
        return version.error if version is not None and version.key == key else None

    def is_unchanged(self, path: str, stats: Stats, error: str | None) -> bool:
        """True if the last version at `path` has the same files, unchanged, and the same error.

        A reserved image is unchanged while it has no sidecar, an ignored file also with one. A
        companion of others is unchanged whatever it holds, since people improve their masks.
        """
        version = self.version(path)
        if version is None:
            return False
        if version.key in (RESERVED, COMPANION):
            is_old = version.key == COMPANION or self._is_old(path, stats[path])
            return all(map(is_image_name, stats)) and is_old
        if not version.key:
            # An ignored file is not made new by a sidecar or a chmod.
            return all(self._is_old(p, stats[p]) for p in stats if p == path or is_image_name(p))
        return version.stats == stats and version.error == error

    def _is_old(self, path: str, stat: FileStat) -> bool:
        version = self.version(path)
        last = version.stats.get(path) if version else None
        if last is None:
            return False
        if last.device == stat.device:
            return last.same_content(stat)
        # A new mount may change the device number of a disk, and on some the inodes of its files.
        return (last.size, last.mtime_ns) == (stat.size, stat.mtime_ns)

    def note(self, versions: Mapping[str, Version]) -> None:
        """Remember versions that were committed to the ledger."""
        self._versions.update((path, _pack(path, v)) for path, v in versions.items())


def rows_of(inbox: str, versions: Mapping[str, Version]) -> list[dict[str, Any]]:
    """The versions of an inbox's files as rows of the ledger."""
    return [
        {
            "inbox": inbox, "path": path, "stat": to_json(version.stats),
            "key": version.key, "error": version.error, "drop_id": version.drop_id,
        }
        for path, version in versions.items()
    ]  # fmt: skip


_Packed = tuple[FileStat | Stats, bytes | str, str | None, bytes | str | None]
"""A version as it is kept in memory, with a third of the bytes, since there may be a million."""


def _pack(path: str, version: Version) -> _Packed:
    stats = version.stats
    alone = len(stats) == 1 and path in stats
    drop_id = None if version.drop_id is None else _short(version.drop_id)
    return (stats[path] if alone else stats, _short(version.key), version.error, drop_id)


def _unpack(path: str, packed: _Packed) -> Version:
    stats, key, error, drop_id = packed
    return Version(
        {path: stats} if isinstance(stats, FileStat) else stats,
        _long(key), error, None if drop_id is None else _long(drop_id),
    )  # fmt: skip


def _short(text: str) -> bytes | str:
    """Hexadecimal digits as bytes; any other text unchanged."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return text
    return data if data.hex() == text else text


def _long(short: bytes | str) -> str:
    return short.hex() if isinstance(short, bytes) else short


def to_json(stats: Stats) -> dict[str, Any]:
    """Stats as plain values for a JSON column."""
    return {path: stat.as_json() for path, stat in stats.items()}
