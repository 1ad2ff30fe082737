"""Images whose names are like one that is not there, for messages about it."""

from __future__ import annotations

import os
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from dna_pipeline.intake.discovery.scan import is_image_name

MOST_NAMES = 2000
"""Folders that hold more are not searched: comparing names takes time, and this only helps."""
_MOST_SEARCHES = 50
"""So many names are looked for by likeness; of more that are wrong, the first ones show why."""


class NearestImages:
    """The images of some folders, each folder listed once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, str]] = {}
        self._searches = 0

    def like(self, path: Path) -> str:
        """The name in the same folder that is most like that path's; "" if none is."""
        names = self._names(path.parent)
        if (same := names.get(path.name.casefold())) is not None:
            return same
        self._searches += 1
        if self._searches > _MOST_SEARCHES:
            return ""
        near = get_close_matches(path.name.casefold()[:100], names, n=1, cutoff=0.8)
        return names[near[0]] if near else ""

    def _names(self, folder: Path) -> dict[str, str]:
        if (names := self._folders.get(folder)) is None:
            found: list[str] = []
            with suppress(OSError, ValueError), os.scandir(folder) as entries:
                found = [entry.name for entry in islice(entries, MOST_NAMES + 1)]
            kept = found if len(found) <= MOST_NAMES else []
            names = {name.casefold(): name for name in sorted(kept) if is_image_name(name)}
            self._folders[folder] = names
        return names
