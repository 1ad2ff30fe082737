"""Track which files have settled. Pure bookkeeping; the clock is a parameter."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dna_pipeline.base.naming import folder_of
from dna_pipeline.intake.discovery.scan import FileStat

DOWNLOAD_WAIT_S = 3600.0
"""Time that a file must be unchanged if its download may still fill it. Without this limit, a
partial file that was left behind would block for ever the files that belong together."""


@dataclass(slots=True)
class _Observation:
    stat: FileStat
    since: float


class StabilityTracker:
    """Tracks the files of one inbox through its scans.

    Every answer is as of the last scan, since time that passed without a scan proves nothing. Times
    are monotonic seconds.

    Args:
        settle_s: time over which scans must have seen size, times and inode unchanged; with 0 one
            scan is enough.
    """

    def __init__(self, settle_s: float) -> None:
        self.settle_s = settle_s
        self.looked_at = -math.inf
        self._observations: dict[str, _Observation] = {}
        # The files are in the order of their last change, so that the first is the next to settle.
        # An OrderedDict, since a plain dict takes ever longer to find its first key while keys are
        # removed from its front.
        self._moving: OrderedDict[str, None] = OrderedDict()
        self._folders: dict[str, float] = {}
        self._downloading: frozenset[str] = frozenset()
        self._returned: set[str] = set()

    def observe(
        self, files: Mapping[str, FileStat], now: float, downloading: Collection[str] = ()
    ) -> None:
        """Record a whole listing, and forget files that it no longer contains.

        Args:
            downloading: the files that settle only after `DOWNLOAD_WAIT_S`.
        """
        for path, stat in files.items():
            last = self._observations.get(path)
            if last is None or not (last.stat == stat or self._is_back(path, last.stat, stat)):
                self._restart(path, stat, now)
            else:
                # The two are mostly equal, but keeping the old object would cost memory in addition
                # to that of the listing.
                last.stat = stat
        if len(self._observations) > len(files):
            for path in self._observations.keys() - files.keys():
                self.forget(path)
                self._folders[folder_of(path)] = now
        self._returned.clear()
        self.looked_at = now
        self._note_downloads(frozenset(downloading))
        self._drop_settled()
        self._drop_folders()

    def forget(self, path: str) -> None:
        """Forget a file that we claimed, so that its absence counts as no change in its folder."""
        self._observations.pop(path, None)
        self._moving.pop(path, None)

    def expect_back(self, path: str) -> None:
        """Expect a file that we moved out and back: its ctime changes, and that is no restart."""
        self._returned.add(path)

    def unchanged_since(self, path: str) -> float | None:
        """Time at which a file was first seen in its present state; None for an unknown file."""
        last = self._observations.get(path)
        return None if last is None else last.since

    def settles_at(self, path: str) -> float | None:
        """Time from which on a file, if unchanged, is settled; None for an unknown file."""
        if (last := self._observations.get(path)) is None:
            return None
        if path in self._downloading:
            return last.since + max(self.settle_s, DOWNLOAD_WAIT_S)
        return last.since + self.settle_s

    def is_downloading(self, path: str) -> bool:
        """True if the download of a file was still under way at the last scan."""
        return path in self._downloading

    def settled_since(self, path: str) -> float | None:
        """Time at which a file settled; None while it has not settled."""
        at = self.settles_at(path)
        return at if at is not None and at <= self.looked_at else None

    def is_settled(self, path: str) -> bool:
        """True if scans saw a file unchanged for long enough."""
        return self.settled_since(path) is not None

    def folder_changed_at(self, folder: str) -> float:
        """Time at which a file directly in `folder` ("" is the inbox) last came, changed or went.

        Minus infinity if no file was ever seen there.
        """
        return self._folders.get(folder, -math.inf)

    def next_settle(self) -> float | None:
        """Time at which the next file may have settled; None if no file is settling."""
        path = next(iter(self._moving), None)
        return None if path is None else self.settles_at(path)

    def _is_back(self, path: str, before: FileStat, now: FileStat) -> bool:
        return path in self._returned and before.same_content(now)

    def _restart(self, path: str, stat: FileStat, now: float) -> None:
        self._observations[path] = _Observation(stat, now)
        self._moving.pop(path, None)
        self._moving[path] = None
        self._folders[folder_of(path)] = now

    def _note_downloads(self, downloading: frozenset[str]) -> None:
        """Keep files that wait for their download out of the order in which the others settle."""
        for path in self._downloading - downloading:
            if path in self._observations and not self.is_settled(path):
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
        if len(self._folders) > 2 * len(self._observations) + 1000:
            alive = {folder_of(path) for path in self._observations}
            self._folders = {name: at for name, at in self._folders.items() if name in alive}
