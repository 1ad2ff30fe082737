"""The files of an inbox that stay there: what was seen of each, and what came of it.

An inbox that keeps its originals is full of files that were taken in long ago, and any inbox may
have been told to ignore what lay in it before it was watched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dna_pipeline.intake.discovery.scan import FileStat, is_image_name
from dna_pipeline.ledger import drops
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger

RESERVED = "reserved"
"""The key of an image that a wrong row of a batch names. It stays, and is not taken in alone; the
version's `error` says why."""

Stats = dict[str, FileStat]
"""What was seen of the files of a drop, by their paths in the inbox."""


@dataclass(frozen=True, slots=True)
class Version:
    """The last version of a file, with its company.

    Attributes:
        key: what its bytes and its resolved spec come to; "" where it was ignored unread.
        error: the code of what was wrong with the pairing.
        drop_id: the drop that was made of it.
    """

    stats: Stats
    key: str = ""
    error: str | None = None
    drop_id: str | None = None


class KnownFiles:
    """Versions by path: that of the image, or of the job file that names it."""

    def __init__(self, inbox: str, ledger: Ledger | Queries) -> None:
        self._inbox = inbox
        if isinstance(ledger, Queries):
            rows = ledger.known_files(inbox)
        else:
            rows = ledger.transact(lambda s: drops.known_files(s, inbox))
        self._versions = {
            path: _packed(path, Version(_from_json(row.stat), row.key, row.error, row.drop_id))
            for path, row in rows.items()
        }

    def version(self, path: str) -> Version | None:
        """What was last seen at that path."""
        packed = self._versions.get(path)
        return None if packed is None else _unpacked(path, packed)

    def reserved_reason(self, path: str) -> str | None:
        """Why that image is not taken in alone, if it is reserved for a batch."""
        known = self.version(path)
        return known.error if known is not None and known.key == RESERVED else None

    def is_unchanged(self, path: str, stats: Stats, error: str | None) -> bool:
        """Whether these very files were seen before in this company."""
        known = self.version(path)
        if known is None:
            return False
        if known.key == RESERVED:
            return list(stats) == [path] and self._is_old(path, stats[path])
        if not known.key:
            # What was to be ignored: neither a sidecar nor a chmod makes it new.
            return all(self._is_old(p, stats[p]) for p in stats if p == path or is_image_name(p))
        return known.stats == stats and known.error == error

    def _is_old(self, path: str, stat: FileStat) -> bool:
        known = self.version(path)
        seen = known.stats.get(path) if known else None
        if seen is None:
            return False
        if seen.device == stat.device:
            return seen.same_content(stat)
        # Mounted again, a disk may have got another number, and on some its files too.
        return (seen.size, seen.mtime_ns) == (stat.size, stat.mtime_ns)

    def note(self, versions: Mapping[str, Version]) -> None:
        """Take note of what was committed."""
        self._versions.update((path, _packed(path, v)) for path, v in versions.items())

    def rows(self, versions: Mapping[str, Version]) -> list[dict[str, Any]]:
        """The same for the ledger."""
        return [
            {
                "inbox": self._inbox, "path": path, "stat": to_json(version.stats),
                "key": version.key, "error": version.error, "drop_id": version.drop_id,
            }
            for path, version in versions.items()
        ]  # fmt: skip


_Packed = tuple[FileStat | Stats, bytes | str, str | None, bytes | str | None]
"""A version as it lies in memory, at a third of the bytes: there may be a million."""


def _packed(path: str, version: Version) -> _Packed:
    stats = version.stats
    alone = len(stats) == 1 and path in stats
    drop_id = None if version.drop_id is None else _short(version.drop_id)
    return (stats[path] if alone else stats, _short(version.key), version.error, drop_id)


def _unpacked(path: str, packed: _Packed) -> Version:
    stats, key, error, drop_id = packed
    return Version(
        {path: stats} if isinstance(stats, FileStat) else stats,
        _long(key), error, None if drop_id is None else _long(drop_id),
    )  # fmt: skip


def _short(text: str) -> bytes | str:
    """Hexadecimal digits as bytes; what is none stays."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return text
    return data if data.hex() == text else text


def _long(short: bytes | str) -> str:
    return short.hex() if isinstance(short, bytes) else short


def to_json(stats: Stats) -> dict[str, Any]:
    """Plain values for a JSON column."""
    return {path: stat.as_json() for path, stat in stats.items()}


def _from_json(stats: dict[str, Any]) -> Stats:
    return {path: FileStat(**stat) for path, stat in stats.items()}
