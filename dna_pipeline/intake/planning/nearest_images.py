"""Find images whose names resemble that of a missing image, for messages about it."""

from __future__ import annotations

import os
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from dna_pipeline.intake.discovery.scan import is_image_name

MOST_NAMES = 2000
"""Largest folder that is searched: comparing names takes time, and a hint is not essential."""
_MOST_SEARCHES = 50
"""Most searches by likeness in one plan: of many wrong names, the first ones show the cause."""


class NearestImages:
    """Images of the folders that were asked about, each folder listed once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, str]] = {}
        self._searches = 0

    def like(self, path: Path) -> str:
        """The name in the folder of `path` that is most like the name of `path`; "" if none is."""
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
            all_names: list[str] = []
            with suppress(OSError, ValueError), os.scandir(folder) as entries:
                all_names = [entry.name for entry in islice(entries, MOST_NAMES + 1)]
            if len(all_names) > MOST_NAMES:
                all_names = []
            names = {name.casefold(): name for name in sorted(all_names) if is_image_name(name)}
            self._folders[folder] = names
        return names
