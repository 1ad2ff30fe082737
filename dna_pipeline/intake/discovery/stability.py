"""Which files have stood still long enough. Pure bookkeeping; the clock is a parameter."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dna_pipeline.intake.discovery.scan import FileStat

DOWNLOAD_WAIT_S = 3600.0
"""How long a file must have stood still that its download may yet fill. Longer would let a partial
file that was left behind hold up what belongs together for ever."""


@dataclass(slots=True)
class _Observation:
    stat: FileStat
    since: float


class StabilityTracker:
    """Follows one inbox through its scans.

    Every answer is as of the last look: time that passed without one proves nothing. Times are
    monotonic seconds.

    Args:
        settle_s: how long size, times and inode must have been seen unchanged; with 0 one look
            is enough.
    """

    def __init__(self, settle_s: float) -> None:
        self.settle_s = settle_s
        self.looked_at = -math.inf
        self._seen: dict[str, _Observation] = {}
        # In the order of their last change, so that the first is the next to settle. A plain
        # dict takes ever longer to find its first key while keys are removed from its front.
        self._moving: OrderedDict[str, None] = OrderedDict()
        self._folders: dict[str, float] = {}
        self._downloading: frozenset[str] = frozenset()
        self._returned: set[str] = set()

    def observe(
        self, files: Mapping[str, FileStat], now: float, downloading: Collection[str] = ()
    ) -> None:
        """Take note of a whole listing; what is not in it any more is forgotten.

        Args:
            downloading: those of the files that settle after `DOWNLOAD_WAIT_S` only.
        """
        for path, stat in files.items():
            seen = self._seen.get(path)
            if seen is None or not (seen.stat == stat or self._is_back(path, seen.stat, stat)):
                self._restart(path, stat, now)
            else:
                # Mostly equal; but the old object would be memory beside the listing's.
                seen.stat = stat
        if len(self._seen) > len(files):
            for path in self._seen.keys() - files.keys():
                self.forget(path)
                self._folders[folder_of(path)] = now
        self._returned.clear()
        self.looked_at = now
        self._note_downloads(frozenset(downloading))
        self._drop_settled()
        self._drop_folders()

    def forget(self, path: str) -> None:
        """We took this file ourselves: that it is gone is no change in its folder."""
        self._seen.pop(path, None)
        self._moving.pop(path, None)

    def expect_back(self, path: str) -> None:
        """We moved this file out and back: the change of its ctime is our own."""
        self._returned.add(path)

    def unchanged_since(self, path: str) -> float | None:
        """When it was first seen as it is now; None for a file that was not seen."""
        seen = self._seen.get(path)
        return None if seen is None else seen.since

    def settles_at(self, path: str) -> float | None:
        """When a look that finds it unchanged will show it settled, or has."""
        if (seen := self._seen.get(path)) is None:
            return None
        is_awaited = path in self._downloading
        return seen.since + max(self.settle_s, DOWNLOAD_WAIT_S if is_awaited else 0)

    def is_downloading(self, path: str) -> bool:
        """Whether its download was still under way at the last look."""
        return path in self._downloading

    def settled_since(self, path: str) -> float | None:
        """When it settled, None while it has not."""
        at = self.settles_at(path)
        return at if at is not None and at <= self.looked_at else None

    def is_settled(self, path: str) -> bool:
        """Whether it was seen unchanged for as long as it takes."""
        return self.settled_since(path) is not None

    def folder_changed_at(self, folder: str) -> float:
        """When anything directly in `folder` ("" is the inbox) last came, changed or vanished.

        Minus infinity where nothing was ever seen.
        """
        return self._folders.get(folder, -math.inf)

    def next_settle(self) -> float | None:
        """When to look again because a file may then have settled; None if none is moving."""
        path = next(iter(self._moving), None)
        return None if path is None else self.settles_at(path)

    def _is_back(self, path: str, before: FileStat, now: FileStat) -> bool:
        return path in self._returned and before.same_content(now)

    def _restart(self, path: str, stat: FileStat, now: float) -> None:
        self._seen[path] = _Observation(stat, now)
        self._moving.pop(path, None)
        self._moving[path] = None
        self._folders[folder_of(path)] = now

    def _note_downloads(self, downloading: frozenset[str]) -> None:
        """Keep files that wait for their download out of the order in which the others settle."""
        for path in self._downloading - downloading:
            if path in self._seen and not self.is_settled(path):
                self._moving[path] = None
                self._moving.move_to_end(path, last=False)
        for path in downloading:
            self._moving.pop(path, None)
        self._downloading = downloading

    def _drop_settled(self) -> None:
        while (path := next(iter(self._moving), None)) is not None and self.is_settled(path):
            del self._moving[path]

    def _drop_folders(self) -> None:
        """Forget folders that hold nothing, so that years of dated subfolders cost no memory."""
        if len(self._folders) > 2 * len(self._seen) + 1000:
            alive = {folder_of(path) for path in self._seen}
            self._folders = {name: at for name, at in self._folders.items() if name in alive}


def folder_of(path: str) -> str:
    """The folder of a path relative to the inbox; "" is the inbox itself."""
    return path.rpartition("/")[0]
